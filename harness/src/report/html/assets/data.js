"use strict";
// The data block and its columns, as columns.rs packs them.

// What goes wrong stands in the page, where a test and a reader find it.
window.addEventListener("error", event => complain(event.message));
function complain(text) {
  const box = document.getElementById("errors");
  box.hidden = false;
  box.textContent += `${text}\n`;
}

const run = JSON.parse(document.getElementById("data").textContent);

// Variable-length integers in base64.
function plain(text) {
  const bytes = Uint8Array.from(atob(text), char => char.charCodeAt(0));
  const numbers = [];
  for (let at = 0; at < bytes.length;) {
    let number = 0,
      scale = 1,
      byte;
    do {
      byte = bytes[at++];
      number += (byte & 127) * scale; // multiplied, since shifts end at 32 bits
      scale *= 128;
    } while (byte > 127);
    numbers.push(number);
  }
  return numbers;
}

// Differences from one number to the next, with the sign in the lowest bit.
function deltas(text) {
  let last = 0;
  return plain(text).map(number => (last += number % 2 ? -(number + 1) / 2 : number / 2));
}

const KINDS = ["get", "put", "cas", "delete"];
const OUTCOMES = ["ok", "fail", "info", "open"];
const operations = unpack(run.operations);

function unpack(columns) {
  const text = columns.texts;
  const word = (numbers, at) => (numbers[at] ? text[numbers[at]] : null);
  const of = {};
  for (const [name, column] of Object.entries(columns)) {
    if (typeof column === "string") of[name] = (name === "invoked" || name === "line" ? deltas : plain)(column);
  }
  return of.invoked.map((invoked, at) => {
    const bits = of.bits[at];
    return {
      at,
      invoked,
      ended: of.took[at] ? invoked + of.took[at] - 1 : null,
      line: of.line[at],
      endLine: of.end_line[at] ? of.line[at] + of.end_line[at] : null,
      kind: KINDS[bits & 3],
      outcome: OUTCOMES[(bits >> 2) & 3],
      swapped: [null, false, true][(bits >> 4) & 3],
      fast: !!(bits & 64),
      local: !!(bits & 128),
      process: of.process[at],
      lane: of.client[at],
      client: columns.clients[of.client[at]],
      node: of.node[at],
      lastNode: of.last_node[at],
      key: word(of.key, at),
      value: word(of.value, at),
      expected: word(of.expected, at),
      returned: word(of.returned, at),
      leader: of.leader[at],
      ballot: word(of.ballot, at),
      version: of.version[at],
      index: of.index[at] ? of.version[at] + of.index[at] - 1 : null,
      error: word(of.error, at),
      trip: word(of.trip, at),
    };
  });
}

const core = new Set(
  run.findings.keys.flatMap(key => key.operations).concat(run.findings.sessions.map(session => session.operation)),
);

// The way that an answered operation took, as in the latencies.
function wayOf(operation) {
  if (operation.fast) return "fast reads";
  if (operation.local) return "local reads";
  return operation.kind === "get" ? "log reads" : "writes";
}

// ---- words ----

// A value; of one that is too long for a picture both ends, and how long it is: its record has all of it.
function show(value) {
  if (value === null) return "absent";
  if (value.length <= 80) return JSON.stringify(value);
  return `${JSON.stringify(`${value.slice(0, 40)}…${value.slice(-20)}`)} (${value.length} characters)`;
}

function told(operation) {
  const answered = operation.outcome === "ok";
  switch (operation.kind) {
    case "get":
      return answered ? `get → ${show(operation.returned)}` : "get";
    case "put":
      return `put ${show(operation.value)}`;
    case "delete":
      return "delete";
    default: {
      const swap = `cas ${show(operation.expected)} to ${show(operation.value)}`;
      return answered ? `${swap} → ${operation.swapped ? "swapped" : `saw ${show(operation.returned)}`}` : swap;
    }
  }
}

function seconds(micros, digits = 6) {
  return `${(micros / 1e6).toFixed(digits)} s`;
}

function duration(micros) {
  if (micros < 1000) return `${Math.round(micros)} µs`;
  if (micros < 1e6) return `${(micros / 1e3).toPrecision(3)} ms`;
  return `${(micros / 1e6).toPrecision(3)} s`;
}

const OUTCOME_WORDS = {
  ok: "ok",
  fail: "fail: certainly did not happen",
  info: "info: nobody knows whether it happened",
  open: "open: the history ends before",
};
