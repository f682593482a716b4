// What passed between clients and nodes: around the violation, as lines in space and time, and over the run, as counters.

const EVENT_SIGNS = {
  elected: ["E", "elects"],
  promised: ["P", "promises"],
  granted: ["g", "grants the lease"],
  released: ["r", "grant given back"],
  hold: ["h", "holds the lease"],
  "hold-ended": ["H̶", "hold given up"],
  leading: ["L", "leads"],
  "stepped-down": ["S", "steps down"],
  "fast-read": ["f", "fast read"],
  decided: ["d", "decided"],
  started: ["▲", "started"],
  clock: ["c", "its clock changed"],
  "mutant-reached": ["✱", "the planted bug"],
  "stop-sign": ["⊘", "stop-sign"],
  snapshot: ["s", "snapshot"],
  group: ["p", "replicates"],
};
const STRONG = [
  "elected",
  "promised",
  "released",
  "hold-ended",
  "leading",
  "stepped-down",
  "started",
  "mutant-reached",
  "clock",
];

function spaceTime(around) {
  const box = element(
    "div",
    { id: "spacetime" },
    element(
      "h3",
      {},
      `Around it${around.partition === null ? "" : `, partition ${around.partition}`}: nodes and clients as lines`,
    ),
  );
  const asked = around.operations.map(at => operations[at]);
  const clients = [...new Set(asked.map(operation => operation.client))].sort((one, other) => one - other);
  const rows = [...clients.map(client => `client ${client}`), ...run.nodes.map(node => `node ${node}`)];
  const times = [
    ...asked.flatMap(operation => [operation.invoked, mayHappenUntil(operation, around)]),
    ...around.events.map(event => event.at),
    ...around.answered.filter(time => time !== null),
    ...(around.messages ?? []).flatMap(message => [message.sent / 1000, (message.arrived ?? message.sent) / 1000]),
  ];
  if (!times.length) return element("p", { class: "note" }, "Nothing is recorded around it.");
  const scale = stretched(times, 22, 7, 7),
    rowTall = 34,
    top = 26;
  const y = name => top + rows.indexOf(name) * rowTall + 16,
    wide = scale.end + 40,
    tall = top + rows.length * rowTall + 24;
  const picture = svg("svg", {
    width: wide,
    height: tall,
    viewBox: `0 0 ${wide} ${tall}`,
    role: "group",
    "aria-label": "space-time diagram",
  });
  const names = svg("svg", { width: 74, height: tall, style: "flex: none" });
  faultBands(picture, scale, 14, tall - 34);
  rows.forEach((name, at) => {
    const tint = name.startsWith("node") ? nodeColor(run.nodes[at - clients.length]) : color("dim");
    picture.append(
      svg("line", {
        x1: 0,
        x2: wide - 16,
        y1: y(name),
        y2: y(name),
        stroke: tint,
        "stroke-width": name.startsWith("node") ? 1.6 : 1,
      }),
    );
    names.append(svg("text", { x: 2, y: y(name) + 4 }, name));
  });
  timeMarks(picture, scale, tall);
  picture.append(
    svg("line", {
      x1: scale.x(around.at),
      x2: scale.x(around.at),
      y1: 14,
      y2: tall - 20,
      stroke: color("bad"),
      "stroke-dasharray": "1 4",
    }),
  );
  const says = element(
    "p",
    { class: "mono", id: "says", "aria-live": "polite" },
    "Press a sign, an arrow or a request: what it is stands here.",
  );
  const say = text => () => {
    says.textContent = text;
  };
  for (const message of around.messages ?? []) picture.append(messageArrow(message, scale, y, say));
  asked.forEach((operation, at) => picture.append(request(operation, around.answered[at], scale, y, say)));
  let reached = {};
  for (const event of around.events) picture.append(eventSign(event, scale, y, say, reached));
  const window = element("div", { class: "scroll" }, picture);
  // what it is about in the middle, as soon as the picture has a place
  requestAnimationFrame(() => {
    window.scrollLeft = scale.x(around.at) - window.clientWidth * 0.6;
  });
  box.append(
    element("div", { style: "display: flex" }, names, window),
    says,
    signs(around),
    missing(around),
    eventTable(around),
  );
  return box;
}

function timeMarks(picture, scale, tall) {
  let reached = 0;
  scale.sorted.forEach((time, at) => {
    const x = scale.places[at];
    if (x < reached) return;
    picture.append(svg("text", { x, y: tall - 6, class: "dim", "font-size": 10 }, seconds(time)));
    picture.append(svg("line", { x1: x, x2: x, y1: tall - 20, y2: tall - 16, stroke: color("dim") }));
    reached = x + 78;
  });
}

// One whose outcome is unknown may happen at any later time.
function mayHappenUntil({ outcome, ended }, around) {
  if (ended === null) return around.to;
  return outcome === "info" ? Math.max(ended, around.to) : ended;
}

// A request and its answer. When it reached the node is recorded of fast reads alone; of others it is drawn in between.
function request(operation, answered, scale, y, say) {
  const from = scale.x(operation.invoked),
    to = scale.x(mayHappenUntil(operation, run.findings.spacetime)),
    client = y(`client ${operation.client}`);
  const node = y(`node ${operation.leader || operation.lastNode}`),
    at = answered === null ? (from + to) / 2 : scale.x(answered);
  const tint = core.has(operation.at) ? color("bad") : color("dim"),
    known = operation.outcome === "ok";
  const guess = answered === null ? "3 3" : null;
  const group = svg(
    "g",
    { stroke: tint, fill: "none", "stroke-width": core.has(operation.at) ? 1.8 : 1 },
    svg("line", { class: "frame", x1: from, y1: client, x2: at, y2: node, "stroke-dasharray": guess }),
    known
      ? svg("line", { x1: at, y1: node, x2: to, y2: client, "stroke-dasharray": guess })
      : svg("text", { x: to, y: client - 4, stroke: "none" }, operation.outcome),
    svg("rect", { x: from, y: client - 4, width: Math.max(to - from, 3), height: 8, fill: color("page") }),
    known ? arrowHead(at, node, to, client, tint) : null,
  );
  const when =
    answered === null
      ? "when it reached the node is not recorded"
      : `the node traced its answer at ${seconds(answered)}`;
  return pressable(
    group,
    () => {
      say(`${brief(operation)}; ${when}`.replaceAll("\n", "; "))();
      select(operation);
    },
    brief(operation),
  );
}

function arrowHead(fromX, fromY, x, y, tint) {
  const angle = Math.atan2(y - fromY, x - fromX),
    wing = turn => `${x - 8 * Math.cos(angle + turn)},${y - 8 * Math.sin(angle + turn)}`;
  return svg("polygon", { points: `${x},${y} ${wing(0.4)} ${wing(-0.4)}`, fill: tint, stroke: "none" });
}

function messageArrow(message, scale, y, say) {
  const lost = message.arrived === null,
    from = scale.x(message.sent / 1000),
    fromY = y(`node ${message.from}`),
    toY = y(`node ${message.to}`);
  const to = lost ? from + 26 : scale.x(message.arrived / 1000),
    endY = lost ? fromY + (toY - fromY) * 0.55 : toY;
  const tint = lost ? color("bad") : nodeColor(message.from);
  const arrival = lost ? null : `arrived ${seconds(message.arrived / 1000)}`,
    end = [arrival, message.trouble].filter(Boolean).join(", ");
  const words = `node ${message.from} → node ${message.to}: ${message.text}, sent ${seconds(message.sent / 1000)}, ${end}`;
  const group = svg(
    "g",
    { class: "message", stroke: tint, "stroke-opacity": 0.75 },
    svg("line", { class: "frame", x1: from, y1: fromY, x2: to, y2: endY, "stroke-dasharray": lost ? "4 2" : null }),
    lost
      ? svg(
          "text",
          { x: to, y: endY + 4, stroke: "none", "text-anchor": "middle", style: `fill:${tint};font-weight:700` },
          "✗",
        )
      : arrowHead(from, fromY, to, toY, tint),
  );
  return pressable(group, say(words), words);
}

function eventSign(event, scale, y, say, reached) {
  const [sign] = EVENT_SIGNS[event.kind] ?? ["?"],
    x = scale.x(event.at),
    strong = STRONG.includes(event.kind) && !isFirstClock(event),
    row = y(`node ${event.node}`);
  const words = `node ${event.node} ${event.text}, at ${seconds(event.at)}`;
  const radius = strong ? 8 : 5.5;
  const group = svg(
    "g",
    { onmousemove: pointer => showTip(pointer, words), onmouseleave: () => showTip(null, null) },
    svg("circle", {
      class: "frame",
      cx: x,
      cy: row,
      r: radius,
      fill: strong ? nodeColor(event.node) : color("page"),
      stroke: nodeColor(event.node),
    }),
    svg(
      "text",
      {
        x,
        y: row + (strong ? 4 : 3),
        "text-anchor": "middle",
        style: `font-size:${strong ? 10.5 : 8.5}px;font-weight:600;${strong ? `fill:${color("page")}` : ""}`,
      },
      sign,
    ),
  );
  const short = event.text.length > 34 ? `${event.text.slice(0, 32)}…` : event.text;
  if (strong && x > (reached[event.node] ?? 0)) {
    group.append(svg("text", { x: x - 4, y: row - 11, "font-size": 10.5 }, short));
    reached[event.node] = x + 6 + short.length * 5.7;
  }
  return pressable(group, say(words), words);
}

// A process says how its clock runs when it starts: that is no change.
function isFirstClock({ kind, node, at }) {
  return kind === "clock" && run.roles.starts.some(([of, , time]) => of === node && at >= time && at - time < 5000);
}

function signs(around) {
  const kinds = [...new Set(around.events.map(event => event.kind))];
  return element(
    "p",
    { class: "note" },
    kinds.map(kind => `${EVENT_SIGNS[kind]?.[0] ?? "?"} ${EVENT_SIGNS[kind]?.[1] ?? kind}`).join("  ·  "),
  );
}

function missing(around) {
  const left = Object.entries(around.left_out).map(([what, count]) => `${count} more ${what}`);
  return element(
    "p",
    { class: "note" },
    around.messages
      ? `Messages between nodes are drawn as arrows; those with ✗ never arrived. ${unseen()}`
      : "Messages between nodes are not recorded in this run: what nodes did is known from their traces alone. ",
    "Of a dashed request only beginning and end at the client are recorded. ",
    "Time is stretched where much happens. ",
    around.unrecorded ? `Messages that the record lacks: ${around.unrecorded}. ` : "",
    left.length ? `Left out, farther away in time: ${left.join(", ")}.` : "",
  );
}

// Real links are looked at between the processes, where not all is seen.
function unseen() {
  return run.simulated
    ? ""
    : "A message that a node had sent and that was still in the kernel when its connection was cut was never seen, and one on a held link begins where it went on. ";
}

function eventTable(around) {
  const rows = around.events.map(event =>
    element(
      "tr",
      {},
      element("td", { class: "mono" }, seconds(event.at)),
      element("td", {}, `node ${event.node}`),
      element("td", {}, event.text),
    ),
  );
  return element(
    "details",
    {},
    element("summary", {}, `the same events as a list (${rows.length})`),
    element("table", {}, ...rows),
  );
}

// ---- counters of links ----

const NOTABLE = ["held", "delayed", "dropped", "duplicated", "reordered", "severed", "refused"];

function network() {
  const section = element("section", { id: "links" }, element("h2", {}, "Links"));
  if (!run.links) {
    section.append(
      element(
        "p",
        { class: "note" },
        run.simulated
          ? "A simulated run has no proxies, so nothing is counted on links."
          : "The run has left no counters of links.",
      ),
    );
    return section;
  }
  const between = run.links.filter(({ link }) => link.from.node && link.to.node);
  const cell = (from, to) => between.find(({ link }) => link.from.node === from && link.to.node === to);
  const table = element(
    "table",
    { class: "matrix" },
    element("tr", {}, element("th", {}, "from \\ to"), ...run.nodes.map(node => element("th", {}, `node ${node}`))),
  );
  for (const from of run.nodes)
    table.append(
      element("tr", {}, element("th", {}, `node ${from}`), ...run.nodes.map(to => linkCell(cell(from, to)))),
    );
  section.append(
    element("p", { class: "note" }, "Frames from node to node, and what the proxy did to them."),
    element("div", { class: "scroll" }, table),
    clientLinks(),
  );
  return section;
}

function linkCell(counters) {
  if (!counters) return element("td", { class: "self" });
  const notable = NOTABLE.filter(name => counters[name]);
  const title = Object.entries(counters)
    .filter(([name]) => name !== "link")
    .map(([name, count]) => `${name} ${count}`)
    .join("\n");
  return element(
    "td",
    { class: notable.length ? "hit" : "", title },
    counters.frames.toLocaleString("en"),
    ...notable.map(name => element("small", {}, `${name} ${counters[name]}`)),
  );
}

function clientLinks() {
  const sums = new Map();
  for (const { link, ...counters } of run.links.filter(({ link }) => !(link.from.node && link.to.node))) {
    const name = link.from.node ? `answers of node ${link.from.node}` : `requests to node ${link.to.node}`;
    const sum = sums.get(name) ?? {};
    for (const [what, count] of Object.entries(counters)) sum[what] = (sum[what] ?? 0) + count;
    sums.set(name, sum);
  }
  const columns = ["connections", "frames", "bytes", ...NOTABLE];
  const rows = [...sums]
    .sort()
    .map(([name, sum]) =>
      element(
        "tr",
        {},
        element("td", {}, name),
        ...columns.map(column => element("td", { class: "number" }, sum[column].toLocaleString("en"))),
      ),
    );
  return element(
    "details",
    {},
    element("summary", {}, "links of clients, all clients together"),
    element(
      "div",
      { class: "scroll" },
      element(
        "table",
        {},
        element("tr", {}, element("th", {}), ...columns.map(column => element("th", { class: "number" }, column))),
        ...rows,
      ),
    ),
  );
}
