package peers;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.microsoft.ml.lightgbm.SWIGTYPE_p_double;
import com.microsoft.ml.lightgbm.SWIGTYPE_p_int;
import com.microsoft.ml.lightgbm.SWIGTYPE_p_long_long;
import com.microsoft.ml.lightgbm.SWIGTYPE_p_p_void;
import com.microsoft.ml.lightgbm.SWIGTYPE_p_void;
import com.microsoft.ml.lightgbm.lightgbmlib;
import com.microsoft.ml.lightgbm.lightgbmlibConstants;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The job in Kafka Streams, exactly once (exactly_once_v2, a commit every 100 ms: its default).
 *
 * <p>The DSL's sliding windows emit aggregates of their own, not what a transaction sees as it comes, so the rows of
 * a card are a value in a key-value store: in memory, with its changelog, in its favour (the default, RocksDB, is
 * slower). A stream thread for each core and larger batches of the producer, since that was faster here; a cache before
 * the store was not. A row is scored by LightGBM's own library (3.3.5 is the newest of its Java packages that was to be
 * had) through its call for one row.
 */
public final class Decide {
  private static final long HOUR_MS = 3_600_000, DAY_MS = 24 * HOUR_MS, WEEK_MS = 7 * DAY_MS;
  private static final int ROW_BYTES = 2 * Long.BYTES; // time in ms, amount in cents
  private static final int FEATURES = 7;
  private static final double REVIEW_FROM = 0.5;
  private static final String STORE = "cards";

  record Transaction(
      @JsonProperty("transaction_id") String id,
      @JsonProperty("event_time") long timeMs,
      @JsonProperty("amount") double amount) {}

  record Decision(
      @JsonProperty("transaction_id") String id,
      @JsonProperty("event_time_ms") long timeMs,
      String outcome,
      double score,
      String model) {}

  public static void main(String[] args) throws IOException {
    Map<?, ?> job = new ObjectMapper().readValue(Path.of(args[0]).toFile(), Map.class);
    String model = (String) job.get("model");
    loadLightGbm((String) job.get("folder"));
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, job.get("group"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.get("bootstrap"));
    settings.put(StreamsConfig.STATE_DIR_CONFIG, job.get("folder"));
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Runtime.getRuntime().availableProcessors());
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1); // of the changelog; there is one broker
    settings.put(ProducerConfig.BATCH_SIZE_CONFIG, 128 * 1024);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");

    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray()));
    builder.stream((String) job.get("transactions"), Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .processValues(() -> new Decider(model), STORE)
        .to((String) job.get("decisions"), Produced.with(Serdes.String(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  /** Reads a transaction, looks through its card's rows, scores, writes a decision. */
  private static final class Decider implements FixedKeyProcessor<String, byte[], byte[]> {
    private final ObjectReader reader =
        new ObjectMapper()
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .readerFor(Transaction.class);
    private final ObjectWriter writer = new ObjectMapper().writerFor(Decision.class);
    private final RowScorer scorer;
    private final double[] features = new double[FEATURES];
    private FixedKeyProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> cards;

    Decider(String model) {
      scorer = new RowScorer(model);
    }

    @Override
    public void init(FixedKeyProcessorContext<String, byte[]> context) {
      this.context = context;
      cards = context.getStateStore(STORE);
    }

    @Override
    public void process(FixedKeyRecord<String, byte[]> message) {
      try {
        Transaction transaction = reader.readValue(message.value());
        byte[] rows = cards.get(message.key());
        cards.put(message.key(), observe(rows, transaction.timeMs(), Math.round(transaction.amount() * 100)));
        double score = scorer.score(features);
        String outcome = score >= REVIEW_FROM ? "review" : "approve";
        Decision decision =
            new Decision(transaction.id(), transaction.timeMs(), outcome, score, "card_payment/0001");
        context.forward(message.withValue(writer.writeValueAsBytes(decision)));
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    /** Fills the features and returns the card's rows, this one added, without those that no window sees. */
    private byte[] observe(byte[] value, long timeMs, long amountMinor) {
      ByteBuffer rows = ByteBuffer.wrap(value == null ? new byte[0] : value);
      int old = 0;
      long hours = 0, days = 0, weeks = 0, hourSum = 0, daySum = 0, weekSum = 0;
      while (rows.hasRemaining()) {
        long then = rows.getLong(), minor = rows.getLong();
        if (then <= timeMs - WEEK_MS) {
          old += ROW_BYTES;
          continue;
        }
        weeks++;
        weekSum += minor;
        if (then > timeMs - DAY_MS) {
          days++;
          daySum += minor;
          if (then > timeMs - HOUR_MS) {
            hours++;
            hourSum += minor;
          }
        }
      }
      features[0] = amountMinor / 100.0;
      features[1] = hours;
      features[2] = days;
      features[3] = weeks;
      features[4] = hourSum / 100.0;
      features[5] = daySum / 100.0;
      features[6] = weekSum / 100.0;
      int kept = rows.capacity() - old;
      ByteBuffer next = ByteBuffer.allocate(kept + ROW_BYTES).put(rows.array(), old, kept);
      return next.putLong(timeMs).putLong(amountMinor).array();
    }
  }

  /** LightGBM's call for one row, set up once; not for use by several threads. */
  private static final class RowScorer {
    private final SWIGTYPE_p_void fast;
    private final SWIGTYPE_p_long_long length = lightgbmlib.new_int64_tp();
    private final SWIGTYPE_p_double score = lightgbmlib.new_doubleArray(1);

    RowScorer(String model) {
      SWIGTYPE_p_p_void booster = lightgbmlib.voidpp_handle(), config = lightgbmlib.voidpp_handle();
      SWIGTYPE_p_int trees = lightgbmlib.new_intp();
      checked(lightgbmlib.LGBM_BoosterCreateFromModelfile(model, trees, booster));
      checked(
          lightgbmlib.LGBM_BoosterPredictForMatSingleRowFastInit(
              lightgbmlib.voidpp_value(booster),
              lightgbmlibConstants.C_API_PREDICT_NORMAL,
              0,
              -1,
              lightgbmlibConstants.C_API_DTYPE_FLOAT64,
              FEATURES,
              "num_threads=1",
              config));
      fast = lightgbmlib.voidpp_value(config);
    }

    double score(double[] features) {
      checked(lightgbmlib.LGBM_BoosterPredictForMatSingleRowFastCriticalSWIG(features, fast, length, score));
      return lightgbmlib.doubleArray_getitem(score, 0);
    }

    private static void checked(int failed) {
      if (failed != 0) {
        throw new IllegalStateException(lightgbmlib.LGBM_GetLastError());
      }
    }
  }

  /** Unpacks the libraries that the package holds; it leaves that to its user. */
  private static void loadLightGbm(String folder) throws IOException {
    for (String name : new String[] {"lib_lightgbm.so", "lib_lightgbm_swig.so"}) {
      Path library = Path.of(folder, name).toAbsolutePath();
      String packed = "/com/microsoft/ml/lightgbm/linux/x86_64/" + name;
      try (InputStream content = Decide.class.getResourceAsStream(packed)) {
        Files.copy(content, library);
      }
      System.load(library.toString());
    }
  }
}
