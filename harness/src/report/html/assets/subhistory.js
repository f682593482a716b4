// The few operations that have no order: bars in the order of their ends, and the order that gets furthest through them.

function subHistory({ operations: places, culprit, furthest, initial }) {
  const its = places.map(at => operations[at]),
    rowTall = 46,
    left = 96,
    top = 34;
  const processes = [...new Set(its.map(operation => operation.process))];
  const ordinal = fitted(its, left);
  const row = operation => top + processes.indexOf(operation.process) * rowTall;
  const begin = operation => ordinal.x(operation.line),
    // one whose outcome is unknown may happen at any later time
    end = operation =>
      operation.endLine === null || operation.outcome === "info" ? ordinal.end : ordinal.x(operation.endLine);
  const tall = top + processes.length * rowTall + 42,
    wide = ordinal.end + 150;
  const picture = svg("svg", {
    width: wide,
    height: tall,
    viewBox: `0 0 ${wide} ${tall}`,
    role: "group",
    "aria-label": "the failing sub-history",
    class: "subhistory",
  });
  subFaults(picture, its, ordinal, top - 30, tall - 40);
  processes.forEach((process, at) => {
    const y = top + at * rowTall + 18;
    picture.append(svg("line", { x1: left - 8, x2: wide - 10, y1: y, y2: y, stroke: color("line") }));
    picture.append(svg("text", { x: 4, y: y + 4, class: "dim" }, `process ${process}`));
  });
  its.forEach((operation, at) =>
    picture.append(bar(operation, begin(operation), end(operation), row(operation), at === culprit)),
  );
  drawOrder(picture, furthest, its, ordinal, row, tall - 22, initial);
  return picture;
}

// As wide as the page, if it may be.
function fitted(its, left) {
  const room = document.getElementById("page").clientWidth - 230,
    narrow = lines(its, left, 1);
  return narrow.end >= room ? narrow : lines(its, left, Math.min((room - left) / (narrow.end - left), 2.4));
}

// The places of the lines on which the operations begin and end: their order is that of real time.
function lines(its, left, times) {
  const known = new Map(
    its.flatMap(operation => [
      [operation.line, operation.invoked],
      ...(operation.endLine ? [[operation.endLine, operation.ended]] : []),
    ]),
  );
  const sorted = [...known.keys()].sort((one, other) => one - other),
    places = new Map(),
    lastOf = new Map();
  let x = left;
  sorted.forEach((line, at) => {
    if (at > 0) x += times * (40 + 12 * Math.log10(1 + known.get(line) - known.get(sorted[at - 1])));
    const begun = its.find(operation => operation.line === line);
    if (begun) {
      // room for what stands above its bar
      const before = lastOf.get(begun.process);
      if (before !== undefined) x = Math.max(x, before);
      lastOf.set(begun.process, x + 20 + 6.6 * told(begun).length);
    }
    places.set(line, x);
  });
  return { x: line => places.get(line), end: x + 60, sorted, time: line => known.get(line) };
}

function subFaults(picture, its, ordinal, top, tall) {
  const first = ordinal.time(ordinal.sorted[0]),
    last = ordinal.time(ordinal.sorted.at(-1));
  const place = time => {
    const after = ordinal.sorted.findIndex(line => ordinal.time(line) >= time);
    if (after === 0) return ordinal.x(ordinal.sorted[0]) - 8;
    if (after < 0) return ordinal.end;
    return (ordinal.x(ordinal.sorted[after - 1]) + ordinal.x(ordinal.sorted[after])) / 2;
  };
  const during = run.faults.filter(
    fault => fault.action !== "heal" && fault.from <= last && (fault.to ?? run.span) >= first,
  );
  during.slice(0, 4).forEach((fault, at) => {
    const from = place(fault.from),
      to = place(fault.to ?? run.span);
    picture.append(
      svg(
        "rect",
        {
          x: from,
          y: top + at * 3,
          width: Math.max(to - from, 3),
          height: tall,
          fill: color("fault"),
          "fill-opacity": 0.09,
        },
        svg("title", {}, faultWords(fault)),
      ),
    );
    picture.append(
      svg(
        "text",
        { x: from + 4, y: top + 10, class: "dim" },
        at === 0 || place(during[at - 1].from) !== from ? `${fault.action} node ${fault.nodes.join(", ") || "–"}` : "",
      ),
    );
  });
}

function bar(operation, from, to, top, isCulprit) {
  const wrong = isCulprit ? color("bad") : color("ink"),
    unknown = operation.outcome !== "ok";
  const made = svg(
    "g",
    { onmousemove: event => showTip(event, brief(operation)), onmouseleave: () => showTip(null, null) },
    svg("rect", {
      class: "frame",
      x: from,
      y: top + 9,
      width: Math.max(to - from, 6),
      height: 18,
      rx: 4,
      fill: color("page"),
      stroke: wrong,
      "stroke-width": isCulprit ? 2.6 : 1.3,
      "stroke-dasharray": unknown ? "5 3" : null,
    }),
    svg(
      "text",
      { x: from + 1, y: top + 4, style: isCulprit ? `fill:${wrong};font-weight:650` : "" },
      `${isCulprit ? "✗ " : ""}${told(operation)}${unknown ? ` (${operation.outcome})` : ""}`,
    ),
    svg(
      "text",
      { x: from + 1, y: top + 39, class: "dim", "font-size": 10 },
      `${seconds(operation.invoked)}${operation.leader ? `, node ${operation.leader}${operation.fast ? " alone" : ""}` : ""}`,
    ),
  );
  return pressable(made, () => select(operation), brief(operation));
}

// Points within the bars, as early as the order allows, and a line through them.
function drawOrder(picture, furthest, its, ordinal, row, bottom, initial) {
  const { sorted } = ordinal,
    slots = [];
  let slot = 0;
  for (const [place, value] of furthest) {
    slot = Math.max(slot, sorted.indexOf(its[place].line));
    slots.push({ operation: its[place], slot, value });
  }
  const points = slots.map((point, at) => {
    const beside = slots.filter(other => other.slot === point.slot),
      nth = beside.indexOf(point);
    const from = ordinal.x(sorted[point.slot]),
      to = point.slot + 1 < sorted.length ? ordinal.x(sorted[point.slot + 1]) : ordinal.end;
    return {
      x: from + ((to - from) * (nth + 1)) / (beside.length + 1),
      y: row(point.operation) + 18,
      value: point.value,
      number: at + 1,
    };
  });
  picture.append(svg("text", { x: 4, y: bottom + 4, class: "dim" }, "key holds"));
  const start = ordinal.x(sorted[0]) - 4;
  picture.append(svg("text", { x: start - 12, y: bottom + 4, "text-anchor": "end", class: "dim" }, ""));
  if (!points.length) return;
  picture.append(
    svg("polyline", {
      points: points.map(point => `${point.x},${point.y}`).join(" "),
      fill: "none",
      stroke: color("good"),
      "stroke-width": 1.6,
      "stroke-dasharray": "2 3",
    }),
  );
  let shown = show(initial),
    reached = 0;
  for (const { x, y, value, number } of points) {
    picture.append(
      svg("line", { x1: x, x2: x, y1: y, y2: bottom - 10, stroke: color("good"), "stroke-opacity": 0.35 }),
    );
    picture.append(svg("circle", { cx: x, cy: y, r: 8, fill: color("good") }));
    picture.append(
      svg(
        "text",
        { x, y: y + 4, "text-anchor": "middle", style: `fill:${color("page")};font-weight:700;font-size:11px` },
        number,
      ),
    );
    if (show(value) === shown && number > 1) continue;
    shown = show(value);
    const at = Math.max(x - 6, reached);
    picture.append(svg("text", { x: at, y: bottom + 4 }, shown));
    reached = at + 12 + 7 * shown.length;
  }
}
