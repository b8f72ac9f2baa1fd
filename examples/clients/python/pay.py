"""Reads transactions from stdin, one JSON object a line, and prints what to do with each.

python examples/clients/python/pay.py --brokers 127.0.0.1:9092 < transactions.ndjson
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from decisions import DecisionClient, approve_below


def main() -> None:
    """Decide line by line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--brokers", default="127.0.0.1:9092")
    options.add_argument("--timeout", type=float, default=0.3, help="seconds that a payment can wait")
    options.add_argument("--approve-below", type=float, default=30.0, help="where there is no decision")
    options.add_argument("--transactions", default="fraud.transactions")
    options.add_argument("--decisions", default="fraud.decisions")
    chosen = options.parse_args()
    topics = (chosen.transactions, chosen.decisions)
    with DecisionClient(
        chosen.brokers, chosen.timeout, approve_below(chosen.approve_below), topics
    ) as client:
        for line in sys.stdin:
            transaction = json.loads(line)
            decision = client.decide(transaction)
            print(
                json.dumps({"transaction_id": transaction["transaction_id"], **asdict(decision)}), flush=True
            )


if __name__ == "__main__":
    main()
