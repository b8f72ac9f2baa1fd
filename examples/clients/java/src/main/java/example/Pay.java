package example;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;

/** Reads transactions from stdin, one JSON object a line, and prints what to do with each. */
public final class Pay {

  private static final ObjectMapper JSON = new ObjectMapper();

  private Pay() {}

  /**
   * @param args brokers, topic of transactions, topic of decisions, time-out in ms, limit of the fallback
   */
  public static void main(String[] args) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (DecisionClient client =
        new DecisionClient(
            Map.of("bootstrap.servers", args[0]),
            args[1],
            args[2],
            Duration.ofMillis(Long.parseLong(args[3])),
            DecisionClient.approveBelow(Double.parseDouble(args[4])))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Map<String, Object> transaction = JSON.readValue(line, new TypeReference<>() {});
        DecisionClient.Decision decision = client.decide(transaction);
        System.out.println(
            JSON.writeValueAsString(
                Map.of(
                    "transaction_id", transaction.get("transaction_id"),
                    "outcome", decision.outcome(),
                    "risk_points", decision.riskPoints(),
                    "fallback", decision.fallback())));
      }
    }
  }
}
