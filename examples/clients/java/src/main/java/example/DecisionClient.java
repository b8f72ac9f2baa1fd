package example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A payment system's side of fraudstream: publishes a transaction, awaits its decision, falls back in time.
 *
 * <p>Threads may share one; make it once a process. One thread reads the decisions of all partitions from their ends
 * on, outside any group, and completes the futures of those who wait. A decision that nobody waits for is dropped.
 */
public final class DecisionClient implements AutoCloseable {

  /**
   * What to do with a payment.
   *
   * @param riskPoints 0 to 1000; -1 where it is the fallback's
   * @param fallback why it is; empty where fraudstream decided
   */
  public record Decision(String outcome, int riskPoints, String fallback) {}

  private static final ObjectMapper JSON = new ObjectMapper();

  private final String transactions;
  private final Duration timeout;
  private final Function<Map<String, ?>, String> fallback;
  private final Producer<byte[], byte[]> producer;
  private final Consumer<byte[], byte[]> consumer;
  private final Map<String, CompletableFuture<Decision>> waiting = new ConcurrentHashMap<>();
  private final Thread reader = new Thread(this::read, "decisions");

  /**
   * @param options of Kafka's clients: bootstrap.servers, security
   * @param timeout how long a payment can wait, all in all
   * @param fallback the outcome where there is no decision in time
   */
  public DecisionClient(
      Map<String, ?> options,
      String transactions,
      String decisions,
      Duration timeout,
      Function<Map<String, ?>, String> fallback) {
    this.transactions = transactions;
    this.timeout = timeout;
    this.fallback = fallback;
    Properties sends = new Properties();
    sends.putAll(options);
    sends.put("enable.idempotence", true); // what the client sends again is there once
    sends.put("linger.ms", 1);
    sends.put("max.block.ms", timeout.toMillis()); // no metadata: fall back in time
    producer = new KafkaProducer<>(sends, new ByteArraySerializer(), new ByteArraySerializer());
    Properties reads = new Properties();
    reads.putAll(options);
    reads.put("enable.auto.commit", false);
    reads.put("isolation.level", "read_committed");
    reads.put("auto.offset.reset", "latest");
    reads.put("fetch.max.wait.ms", 50);
    consumer = new KafkaConsumer<>(reads, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    List<TopicPartition> parts =
        consumer.partitionsFor(decisions).stream()
            .map(part -> new TopicPartition(decisions, part.partition()))
            .toList();
    consumer.assign(parts);
    consumer.seekToEnd(parts);
    parts.forEach(consumer::position); // the ends are known now, so that no decision is missed
    reader.setDaemon(true);
    reader.start();
  }

  /** Returns a fallback policy: small payments are approved, the others referred to a person. */
  public static Function<Map<String, ?>, String> approveBelow(double limit) {
    return transaction ->
        Double.parseDouble(transaction.get("amount").toString()) < limit ? "approve" : "refer";
  }

  /**
   * Publishes a transaction and returns its decision, or the fallback's.
   *
   * <p>The same id may be sent again: fraudstream counts it once and says its first decision again. Who waits for an id
   * that is waited for already shares the answer, and the first one's time-out.
   */
  public Decision decide(Map<String, ?> transaction) throws InterruptedException {
    String id = transaction.get("transaction_id").toString();
    CompletableFuture<Decision> future = waiting.computeIfAbsent(id, unused -> new CompletableFuture<>());
    long deadline = System.nanoTime() + timeout.toNanos();
    try {
      byte[] key = transaction.get("card_id").toString().getBytes(StandardCharsets.UTF_8);
      producer.send(
          new ProducerRecord<>(transactions, key, JSON.writeValueAsBytes(transaction)),
          (sent, error) -> {
            if (error != null) {
              future.completeExceptionally(error);
            }
          });
      return future.get(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException | CancellationException late) {
      return fallBack(transaction, "no decision in time");
    } catch (ExecutionException | IOException | RuntimeException error) {
      return fallBack(transaction, error.getMessage());
    } finally {
      future.cancel(false);
      waiting.remove(id, future);
    }
  }

  /** Sends what is still under way, and stops reading. */
  @Override
  public void close() {
    producer.close(Duration.ofSeconds(10));
    consumer.wakeup();
    try {
      reader.join();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private Decision fallBack(Map<String, ?> transaction, String why) {
    return new Decision(fallback.apply(transaction), -1, why);
  }

  private void read() {
    try (consumer) {
      while (true) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
          take(record.value());
        }
      }
    } catch (WakeupException closed) {
      return; // close() was called
    }
  }

  private void take(byte[] value) {
    if (value == null) {
      return;
    }
    try {
      JsonNode said = JSON.readTree(value);
      CompletableFuture<Decision> future = waiting.get(said.path("transaction_id").asText());
      if (future != null) { // a decision may come twice (at least once): the first completes it
        future.complete(new Decision(said.path("outcome").asText(), said.path("risk_points").asInt(), ""));
      }
    } catch (IOException notJson) {
      return; // nobody waits for what is no decision
    }
  }
}
