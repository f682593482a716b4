#!/usr/bin/env python3
"""A lin-kv node of Maelstrom's protocol: each key is a register of CASPaxos (Rystsov, 2018).

Whoever is asked proposes: it prepares a ballot at a majority, learns the newest value that one of them has accepted, and has
the majority accept what the operation makes of it. There is no leader and no log. State is in memory: a node that is killed
forgets what it promised, so such nodes may be cut off, delayed and paused, but not killed.

    --local-reads   a planted bug: reads are answered from what this node has accepted
    --rubbish       prints a line that is no message after its first answer
    --deaf          reads its messages and answers nothing
"""

import json
import sys
import time

PATIENCE = 1.0  # seconds, for each of the two phases


class Node:
    def __init__(self, bugs):
        self.bugs = bugs
        self.name = None
        self.names = []
        self.last_id = 0
        self.counter = 0
        self.registers = {}  # key -> [promised, accepted, value]
        self.rounds = {}  # id of a request to all -> Round

    # messages

    def send(self, dest, body):
        print(json.dumps({"src": self.name, "dest": dest, "body": body}), flush=True)

    def reply(self, asked, body):
        self.send(asked["src"], {**body, "in_reply_to": asked["body"]["msg_id"]})

    def ask_all(self, round, body):
        """Asks every node, this one too; the answers go to the round."""
        self.last_id += 1
        round.id, round.answers, round.deadline = self.last_id, {}, time.monotonic() + PATIENCE
        self.rounds[round.id] = round
        for name in self.names:
            self.send(name, {**body, "msg_id": round.id})

    # acceptor

    def register(self, key):
        return self.registers.setdefault(json.dumps(key), [[0, ""], [0, ""], None])

    def prepare(self, message):
        body = message["body"]
        register = self.register(body["key"])
        if body["ballot"] <= register[0]:
            self.reply(message, {"type": "refused", "promised": register[0]})
        else:
            register[0] = body["ballot"]
            self.reply(message, {"type": "promise", "accepted": register[1], "value": register[2]})

    def accept(self, message):
        body = message["body"]
        register = self.register(body["key"])
        if body["ballot"] < register[0]:
            self.reply(message, {"type": "refused", "promised": register[0]})
        else:
            register[0] = register[1] = body["ballot"]
            register[2] = body["value"]
            self.reply(message, {"type": "accepted"})

    # proposer

    def propose(self, asked):
        if "local-reads" in self.bugs and asked["body"]["type"] == "read":
            return self.answer(asked, self.register(asked["body"]["key"])[2], None)
        self.counter += 1
        round = Round(asked, [self.counter, self.name])
        self.ask_all(round, {"type": "prepare", "key": asked["body"]["key"], "ballot": round.ballot})

    def heard(self, message):
        round = self.rounds.get(message["body"]["in_reply_to"])
        if round is None:
            return
        body = message["body"]
        if body["type"] == "refused":
            # the next attempt goes above it
            self.counter = max(self.counter, body["promised"][0])
            return self.give_up(round, "another is ahead")
        round.answers[message["src"]] = body
        if len(round.answers) <= len(self.names) // 2:
            return
        del self.rounds[round.id]
        asked = round.asked["body"]
        if not round.accepting:
            seen = max(round.answers.values(), key=lambda promise: promise["accepted"])["value"]
            error, round.value = outcome(asked, seen)
            round.seen, round.error, round.accepting = seen, error, True
            self.ask_all(round, {"type": "accept", "key": asked["key"], "ballot": round.ballot, "value": round.value})
        else:
            self.answer(round.asked, round.seen, round.error)

    def give_up(self, round, why):
        """What was only prepared has certainly not happened; what may have been accepted somewhere may happen yet."""
        del self.rounds[round.id]
        indefinite = round.accepting and round.value != round.seen
        self.reply(round.asked, {"type": "error", "code": 0 if indefinite else 11, "text": why})

    def answer(self, asked, seen, error):
        kind = asked["body"]["type"]
        if error is not None:
            self.reply(asked, {"type": "error", "code": error, "text": f"the value is {json.dumps(seen)}"})
        elif kind == "read" and seen is None:
            self.reply(asked, {"type": "error", "code": 20, "text": "there is no such key"})
        elif kind == "read":
            self.reply(asked, {"type": "read_ok", "value": seen})
        else:
            self.reply(asked, {"type": kind + "_ok"})
        if "rubbish" in self.bugs:
            print("what am I doing here?", flush=True)

    # all of it

    def take(self, message):
        body = message["body"]
        kind = body["type"]
        if kind == "init":
            self.name, self.names = body["node_id"], body["node_ids"]
            self.reply(message, {"type": "init_ok"})
        elif "deaf" in self.bugs:
            pass
        elif "in_reply_to" in body:
            self.heard(message)
        elif kind == "prepare":
            self.prepare(message)
        elif kind == "accept":
            self.accept(message)
        elif kind in ("read", "write", "cas"):
            self.propose(message)
        else:
            self.reply(message, {"type": "error", "code": 10, "text": f"{kind} is not supported"})
        now = time.monotonic()
        for round in [round for round in self.rounds.values() if round.deadline < now]:
            self.give_up(round, "no majority has answered")


class Round:
    """An operation under way."""

    def __init__(self, asked, ballot):
        self.asked = asked
        self.ballot = ballot
        self.accepting = False


def outcome(asked, seen):
    """The error of an operation on this value, if there is one, and the value after it."""
    if asked["type"] == "write":
        return None, asked["value"]
    if asked["type"] == "cas" and seen is None:
        return 20, seen
    if asked["type"] == "cas" and seen != asked["from"]:
        return 22, seen
    return None, asked["to"] if asked["type"] == "cas" else seen


if __name__ == "__main__":
    node = Node([argument.lstrip("-") for argument in sys.argv[1:]])
    for line in sys.stdin:
        node.take(json.loads(line))
