// Single operations: a lane for each client, and the record of the one that is selected.

let selected = null;
let onlyKey = null; // operations on other keys are faint

function brief(operation) {
  const took = operation.ended === null ? "never ended" : duration(operation.ended - operation.invoked);
  const by = operation.leader ? `answered by node ${operation.leader} under ${operation.ballot}` : null;
  const lines = [
    `client ${operation.client}, key ${operation.key}: ${told(operation)}`,
    `${operation.outcome}, ${took}, from ${seconds(operation.invoked)}`,
    by && operation.fast ? `${by}, fast` : by,
    operation.error,
  ];
  return lines.filter(line => line).join("\n");
}

const lanes = run.operations.clients.map(() => []);
for (const operation of operations) lanes[operation.lane].push(operation);
const laneHeight = lanes.length > 60 ? 7 : lanes.length > 30 ? 9 : 13;
const endOf = operation => operation.ended ?? run.span;

function laneTrack() {
  const paint = (pen, box) => {
    pen.textAlign = "right";
    const every = Math.ceil(11 / laneHeight);
    lanes.forEach((lane, row) => {
      pen.fillStyle = color("dim");
      if (row % every === 0)
        pen.fillText(`c${run.operations.clients[row]}`, box.left - 6, (row + 0.5) * laneHeight + 2);
    });
    pen.textAlign = "left";
    inside(pen, box, () =>
      lanes.forEach((lane, row) => {
        const top = row * laneHeight + 3;
        const reached = { get: -1, other: -1 }; // what falls onto the same pixel is drawn once
        for (const operation of lane) {
          const kind = operation.kind === "get" ? "get" : "other";
          if (onlyKey === null && operation.outcome === "ok") {
            const to = box.x(endOf(operation));
            if (to < reached[kind] + 0.7) continue;
            reached[kind] = to;
          }
          pen.globalAlpha = onlyKey === null || operation.key === onlyKey ? 1 : 0.12;
          paintOperation(pen, box, operation, top);
        }
        pen.globalAlpha = 1;
      }),
    );
    for (const operation of operations) {
      if (operation === selected || core.has(operation.at)) mark(pen, box, operation);
    }
  };
  const point = (x, y, box) => {
    const lane = lanes[Math.floor((y - 2) / laneHeight)];
    const hit =
      lane &&
      nearest(
        lane,
        x,
        0,
        operation => [Math.max(box.x(operation.invoked), Math.min(x, box.x(endOf(operation)))), 0],
        7,
      );
    return hit ? { text: brief(hit), press: () => select(hit) } : null;
  };
  const words = legend(
    ["▬", "ok", "read"],
    ["■", "write", "write"],
    ["□", "fail", "fail"],
    ["▧", "info", "info: may happen later"],
    ["▢", "bad", "of the failing sub-history"],
  );
  const made = track({
    name: "operations by client",
    height: () => lanes.length * laneHeight + 5,
    paint,
    point,
    words,
    keys: laneKeys,
  });
  made.id = "lanes";
  if (run.sample.left_out) made.append(element("p", { class: "note" }, run.sample.left_out));
  return made;
}

function paintOperation(pen, box, operation, top) {
  const from = box.x(operation.invoked),
    to = box.x(endOf(operation));
  if (to < box.left || from > box.right) return;
  const wide = Math.max(to - from, 1.5),
    high = laneHeight - 2;
  if (operation.outcome === "ok") {
    const flat = operation.kind === "get" && wide < 40; // reads are flat, writes are tall
    pen.fillStyle = color(operation.kind === "get" ? "ok" : "write");
    pen.fillRect(from, flat ? top + high * 0.25 : top, wide, flat ? high * 0.6 : high);
  } else if (operation.outcome === "fail") {
    pen.strokeStyle = color("fail");
    pen.lineWidth = 1;
    pen.strokeRect(from + 0.5, top + 0.5, wide, high - 1);
  } else {
    pen.fillStyle = stripes(pen, color("info"), -1, 3);
    pen.fillRect(from, top, Math.max(wide, 3), high);
    pen.strokeStyle = color("info");
    pen.strokeRect(from + 0.5, top + 0.5, Math.max(wide, 3), high - 1);
  }
  if (wide > 40 && laneHeight > 10) {
    const words = told(operation);
    const x = Math.max(from, box.left) + 4,
      size = pen.measureText(words).width;
    if (size < to - x) {
      if (operation.outcome !== "ok") {
        pen.fillStyle = color("panel");
        pen.fillRect(x - 2, top + 1, size + 4, high - 2);
      }
      pen.fillStyle = operation.outcome === "ok" ? color("page") : color("ink");
      pen.fillText(words, x, top + high / 2 + 0.5);
    }
  }
}

function mark(pen, box, operation) {
  const from = box.x(operation.invoked),
    to = box.x(endOf(operation)),
    top = operation.lane * laneHeight + 3;
  if (to < box.left - 6 || from > box.right + 6) return;
  pen.strokeStyle = color(operation === selected ? "focus" : "bad");
  pen.lineWidth = 2;
  pen.strokeRect(from - 3, top - 2, Math.max(to - from, 2) + 6, laneHeight + 2);
}

function select(operation, follow = false) {
  selected = operation;
  if (!operation) onlyKey = null;
  const panel = document.getElementById("record");
  panel.hidden = !operation;
  if (operation) {
    panel.replaceChildren(...record(operation));
    history.replaceState(null, "", `#op=${operation.line}`);
    const margin = (view.to - view.from) * 0.05;
    if (follow && (operation.invoked < view.from + margin || operation.invoked > view.to - margin)) {
      const half = (view.to - view.from) / 2;
      look(operation.invoked - half, operation.invoked + half);
    }
  } else history.replaceState(null, "", location.pathname + location.search);
  redraw();
}

function record(operation) {
  const took = operation.ended === null ? "" : ` (${duration(operation.ended - operation.invoked)})`;
  const entries = [
    ["outcome", OUTCOME_WORDS[operation.outcome]],
    ["error", operation.error],
    ["key", operation.key],
    ["from", `${seconds(operation.invoked)}, line ${operation.line}`],
    ["to", operation.ended === null ? "never" : `${seconds(operation.ended)}, line ${operation.endLine}${took}`],
    ["client", `${operation.client}, process ${operation.process}`],
    [
      "asked",
      operation.lastNode === operation.node
        ? `node ${operation.node}`
        : `node ${operation.node} first, node ${operation.lastNode} last`,
    ],
    ["answered by", operation.leader ? `node ${operation.leader}${answeredHow(operation)}` : null],
    ["ballot", operation.ballot],
    ["version", operation.leader ? operation.version : null],
    ["log index", operation.leader ? (operation.index ?? "not recorded") : null],
    ["on its way", operation.trip],
    ["beside it", besides(operation)],
  ];
  const list = element(
    "dl",
    {},
    ...entries
      .filter(([, value]) => value !== null)
      .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]),
  );
  const step = (label, title, lane, by) =>
    element("button", { type: "button", title, onclick: () => go(lane, operation, by) }, label);
  const ofKey = operations.filter(other => other.key === operation.key);
  return [
    element("h3", {}, `${told(operation)}${core.has(operation.at) ? "  ✗ of the failing sub-history" : ""}`),
    element("button", { type: "button", class: "close", title: "close (Escape)", onclick: () => select(null) }, "×"),
    list,
    element(
      "div",
      { class: "buttons" },
      step("‹ client", "the client's operation before (←)", lanes[operation.lane], -1),
      step("client ›", "the client's next operation (→)", lanes[operation.lane], 1),
      step("‹ key", "the operation on the key before", ofKey, -1),
      step("key ›", "the next operation on the key", ofKey, 1),
      element(
        "button",
        { type: "button", "aria-pressed": onlyKey !== null, onclick: () => toggleKey(operation) },
        "only this key",
      ),
      element("button", { type: "button", title: "(Enter)", onclick: () => close(operation) }, "zoom"),
    ),
  ];
}

function answeredHow(operation) {
  if (operation.local) return ", from what it had applied";
  return operation.fast ? ", alone under its lease" : ", through the log";
}

function toggleKey(operation) {
  onlyKey = onlyKey === null ? operation.key : null;
  select(operation);
}

function besides(operation) {
  const during = run.faults.filter(
    fault => fault.action !== "heal" && fault.from <= endOf(operation) && (fault.to ?? run.span) >= operation.invoked,
  );
  return during.length ? during.map(fault => `${fault.action} node ${fault.nodes.join(", ") || "–"}`).join("; ") : null;
}

function go(among, operation, by) {
  const next = among[among.indexOf(operation) + by];
  if (next) select(next, true);
}

function close(operation) {
  const margin = Math.max((endOf(operation) - operation.invoked) * 3, 2000);
  look(operation.invoked - margin, Math.min(endOf(operation), operation.invoked + 2e6) + margin);
  document.getElementById("lanes").scrollIntoView({ block: "center" });
}

function laneKeys(event) {
  if (event.shiftKey || !["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Enter"].includes(event.key)) return;
  event.preventDefault();
  if (!selected) {
    select(operations.find(operation => operation.invoked >= view.from) ?? operations[0], true);
    return;
  }
  if (event.key === "Enter") close(selected);
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight")
    go(lanes[selected.lane], selected, event.key === "ArrowLeft" ? -1 : 1);
  else {
    const lane = lanes[selected.lane + (event.key === "ArrowUp" ? -1 : 1)];
    const near = lane && nearest(lane, selected.invoked, 0, operation => [operation.invoked, 0], Infinity);
    if (near) select(near, true);
  }
}
