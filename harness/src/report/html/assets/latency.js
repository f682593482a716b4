// How long operations took by the way that they took, and how the nodes' clocks ran.

const WAY_COLORS = { "fast reads": "fast", "local reads": "local", "log reads": "log", writes: "write" };
const RANKS = [
  ["p50", []],
  ["p90", [2, 2]],
  ["p99", [6, 3]],
];

function latencyTrack(way) {
  const { width } = way,
    ranks = RANKS.map(([name, dash]) => ({ name, dash, values: plain(way[name]) })),
    most = plain(way.max);
  const its = operations.filter(operation => operation.outcome === "ok" && wayOf(operation) === way.name);
  const low = Math.log10(20),
    high = Math.log10(Math.max(way.whole[3] * 1.3, 2000));
  const yOf = box => micros =>
    box.height - 4 - ((Math.log10(Math.max(micros, 20)) - low) / (high - low)) * (box.height - 10);
  const paint = (pen, box) => {
    const y = yOf(box);
    pen.textAlign = "right";
    for (let decade = 100; Math.log10(decade) < high; decade *= 10) {
      pen.fillStyle = color("line");
      pen.fillRect(box.left, y(decade), box.right - box.left, 1);
      pen.fillStyle = color("dim");
      pen.fillText(
        decade < 1000 ? `${decade} µs` : decade < 1e6 ? `${decade / 1000} ms` : `${decade / 1e6} s`,
        box.left - 6,
        y(decade),
      );
    }
    inside(pen, box, () => {
      pen.fillStyle = color(WAY_COLORS[way.name]);
      pen.globalAlpha = its.length > 3000 ? 0.3 : 0.55;
      for (const operation of its) {
        const x = box.x(operation.ended);
        if (x < box.left - 3 || x > box.right + 3) continue;
        const radius = core.has(operation.at) ? 5 : 1.8;
        if (radius > 2 || view.to - view.from < run.span / 8) {
          glyph(pen, operation.kind, x, y(operation.ended - operation.invoked), Math.max(radius, 2.6));
          pen.fill();
        } else pen.fillRect(x - 1, y(operation.ended - operation.invoked) - 1, 2, 2);
      }
      pen.globalAlpha = 1;
      for (const { dash, values } of ranks) stepLine(pen, box, values, width, y, dash);
    });
  };
  const point = (x, y, box) => {
    const near = nearest(
      its,
      x,
      y,
      operation => [box.x(operation.ended), yOf(box)(operation.ended - operation.invoked)],
      9,
    );
    const at = Math.floor((view.from + (x - box.left) / box.scale) / width);
    const ranked = ranks.map(rank => `${rank.name} ${duration(rank.values[at])}`).join(", ");
    const figures = most[at]
      ? `${way.name} ended in ${seconds(at * width, 2)} + ${duration(width)}:\n${ranked}, max ${duration(most[at])}`
      : "";
    if (near) return { text: `${brief(near)}\n\n${figures}`, press: () => select(near) };
    return figures ? { text: figures } : null;
  };
  const [p50, p90, p99, max] = way.whole.map(duration);
  const words = legend(
    ["●", WAY_COLORS[way.name], `${way.count} answered: p50 ${p50}, p90 ${p90}, p99 ${p99}, max ${max}`],
    ["—", "ink", "p50"],
    ["┄", "ink", "p90"],
    ["╌", "ink", "p99"],
  );
  return track({ name: `latency of ${way.name}`, height: () => 84, paint, point, words });
}

function stepLine(pen, box, values, width, y, dash) {
  const [first, last] = inView(width, values.length);
  pen.strokeStyle = color("ink");
  pen.lineWidth = dash.length ? 1 : 1.7;
  pen.setLineDash(dash);
  pen.beginPath();
  let on = false;
  for (let at = Math.max(first - 1, 0); at <= Math.min(last + 1, values.length - 1); at++) {
    if (!values[at]) {
      on = false;
      continue;
    }
    const x = box.x((at + 0.5) * width);
    if (on) pen.lineTo(x, y(values[at]));
    else {
      pen.moveTo(x - 2, y(values[at]));
      pen.lineTo(x + 2, y(values[at]));
    }
    on = true;
  }
  pen.stroke();
  pen.setLineDash([]);
}

function nearest(candidates, x, y, place, most) {
  let best = null,
    least = most * most;
  for (const candidate of candidates) {
    const [cx, cy] = place(candidate),
      distance = (cx - x) ** 2 + (cy - y) ** 2;
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

// ---- clocks ----

function clockTrack() {
  const pieces = run.roles.clocks;
  if (!pieces.length) return null;
  // clocks that begin anywhere are shown by what they gain and lose
  const anywhere = pieces.some(piece => Math.abs(piece.offset) > 60e6);
  const base = node => (anywhere ? pieces.find(piece => piece.node === node).offset : 0);
  const ends = pieces.map((piece, at) => {
    const next = pieces.slice(at + 1).find(other => other.node === piece.node);
    return { piece, to: Math.max(next ? next.from : run.span, piece.from) };
  });
  const shows = (piece, time) => piece.offset - base(piece.node) + ((time - piece.from) * piece.rate_ppm) / 1e6;
  const all = ends.flatMap(({ piece, to }) => [shows(piece, piece.from), shows(piece, to)]);
  const low = Math.min(-500, ...all),
    high = Math.max(500, ...all),
    room = Math.max((high - low) * 0.08, 100);
  const yOf = box => offset => box.height - 6 - ((offset - low + room) / (high - low + 2 * room)) * (box.height - 12);
  const paint = (pen, box) => {
    const y = yOf(box);
    pen.textAlign = "right";
    for (const tick of ticks(low / 1000, high / 1000, 6).all) {
      pen.fillStyle = color("line");
      pen.fillRect(box.left, y(tick * 1000), box.right - box.left, 1);
      pen.fillStyle = color("dim");
      const words = Math.abs(tick) >= 1000 ? `${+(tick / 1000).toPrecision(3)} s` : `${+tick.toPrecision(3)} ms`;
      pen.fillText(words, box.left - 6, Math.min(Math.max(y(tick * 1000), 6), box.height - 6));
    }
    pen.textAlign = "left";
    inside(pen, box, () =>
      ends.forEach(({ piece, to }) => {
        pen.strokeStyle = pen.fillStyle = nodeColor(piece.node);
        pen.lineWidth = 1.8;
        pen.beginPath();
        pen.moveTo(box.x(piece.from), y(shows(piece, piece.from)));
        pen.lineTo(box.x(to), y(shows(piece, to)));
        pen.stroke();
        const from = Math.max(view.from, piece.from),
          until = Math.min(view.to, to),
          middle = from + (until - from) * (0.1 + ((0.13 * piece.node) % 0.8));
        if (box.x(until) - box.x(from) > 60)
          pen.fillText(`n${piece.node}`, box.x(middle), Math.max(y(shows(piece, middle)) - 8, 7));
      }),
    );
  };
  const point = (x, _, box) => {
    const time = view.from + (x - box.left) / box.scale;
    const now = ends.filter(({ piece, to }) => time >= piece.from && time <= to);
    const words = ({ piece }) =>
      `node ${piece.node}: ${(shows(piece, time) / 1000).toFixed(3)} ms, ${piece.rate_ppm} ppm`;
    return now.length ? { text: now.map(words).join("\n") } : null;
  };
  const what = anywhere
    ? "what each node's clock has gained on the common clock since it began"
    : "what each node's clock shows, less what the common clock shows";
  return track({ name: "clocks", height: () => 90, paint, point, words: legend(["", "dim", what]) });
}
