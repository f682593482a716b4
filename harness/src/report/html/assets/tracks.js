// What the whole run did over time: faults, throughput by outcome, fast reads.

function faultRows() {
  const rows = [];
  return run.faults
    .filter(fault => fault.action !== "heal")
    .map(fault => {
      let row = rows.findIndex(end => end <= fault.from);
      if (row < 0) row = rows.length < 6 ? rows.push(0) - 1 : rows.indexOf(Math.min(...rows));
      rows[row] = fault.to ?? run.span;
      return { fault, row };
    });
}

function faultWords(fault) {
  const whom = fault.nodes.length ? `node ${fault.nodes.join(", ")}` : "nobody";
  const until = fault.instant
    ? "and at once over"
    : fault.to === null
      ? "never undone"
      : `until ${seconds(fault.to, 3)}`;
  const struck = fault.struck === null ? "" : `\nstruck ${fault.struck} times`;
  return (
    `fault ${fault.number}: ${fault.action} ${fault.target} → ${whom}\nin effect from ${seconds(fault.from, 3)}, ${until}` +
    `\nasked for at ${seconds(fault.requested, 3)}${struck}`
  );
}

function faultTrack() {
  const rows = faultRows(),
    tall = 17;
  const height = () => Math.max(1, ...rows.map(({ row }) => row + 1)) * tall + 4;
  const paint = (pen, box) => {
    pen.textAlign = "left";
    inside(pen, box, () =>
      rows.forEach(({ fault, row }) => {
        const from = box.x(fault.from),
          wide = Math.max(box.x(fault.to ?? run.span) - from, 3),
          top = row * tall + 3;
        if (from > box.right || from + wide < box.left) return;
        pen.fillStyle = stripes(pen, color("fault"), 1, 4);
        pen.fillRect(from, top, wide, tall - 3);
        pen.strokeStyle = color("fault");
        pen.strokeRect(from + 0.5, top + 0.5, wide, tall - 4);
        const words = `${fault.action} ${fault.nodes.length ? `n${fault.nodes.join(" n")}` : "nobody"}`;
        const size = pen.measureText(words).width,
          x = Math.max(from, box.left) + 3;
        const room = rows.every(
          other =>
            other.row !== row ||
            other.fault === fault ||
            box.x(other.fault.from) < from ||
            box.x(other.fault.from) > x + size,
        );
        if (!room && wide < size + 8) return;
        pen.fillStyle = color("panel");
        pen.fillRect(x, top + 1, size + 5, tall - 5);
        pen.fillStyle = color("ink");
        pen.fillText(words, x + 2, top + tall / 2 - 1);
      }),
    );
    if (!rows.length) centred(pen, box, "no faults");
  };
  const point = (x, y, box) => {
    const hit = rows.findLast(
      ({ fault, row }) =>
        Math.floor((y - 3) / tall) === row &&
        x >= box.x(fault.from) - 2 &&
        x <= Math.max(box.x(fault.to ?? run.span), box.x(fault.from) + 3),
    );
    return (
      hit && { text: faultWords(hit.fault), press: () => look(hit.fault.from - 2e5, (hit.fault.to ?? run.span) + 2e5) }
    );
  };
  const stalled = run.stalls.length ? [["▨", "dim", "the harness itself stood still"]] : [];
  return track({ name: "faults", height, paint, point, words: legend(...stalled) });
}

function centred(pen, box, words) {
  pen.textAlign = "center";
  pen.fillStyle = color("dim");
  pen.fillText(words, (box.left + box.right) / 2, box.height / 2);
}

// ---- throughput ----

function throughputTrack() {
  const { width } = run.throughput,
    layers = ["ok", "fail", "info"];
  const counts = Object.fromEntries(layers.map(name => [name, plain(run.throughput[name])]));
  // the run ends within the last moment, of which too little tells no rate
  const lasts = at => Math.max(Math.min(width, run.span - at * width), width / 4);
  const rate = at => (layers.reduce((sum, name) => sum + counts[name][at], 0) * 1e6) / lasts(at);
  // a short burst shall not flatten all the rest: it goes beyond the scale, and says how far
  const usual = (first, last) => {
    const rates = [];
    for (let at = first; at <= last; at++) if (rate(at)) rates.push(rate(at));
    rates.sort((one, other) => one - other);
    return Math.max(1, Math.min(rates.at(-1) ?? 1, 3 * (rates[Math.floor(rates.length * 0.9)] ?? 1)));
  };
  const paint = (pen, box) => {
    const [first, last] = inView(width, counts.ok.length);
    const most = usual(first, last),
      y = perSecond => box.height - 2 - Math.min(perSecond / most, 1.06) * (box.height - 16);
    scale(pen, box, most, y, perSecond);
    inside(pen, box, () => {
      for (let at = first; at <= last; at++) {
        let below = 0;
        for (const name of layers) {
          const high = (counts[name][at] * 1e6) / lasts(at);
          if (!high) continue;
          pen.fillStyle = name === "ok" ? color("ok") : stripes(pen, color(name), name === "fail" ? 1 : -1, 3);
          const left = Math.floor(box.x(at * width)),
            right = Math.floor(box.x((at + 1) * width));
          pen.fillRect(left, y(below + high), Math.max(right - left, 1), Math.max(y(below) - y(below + high), 1));
          below += high;
        }
        if (below > most * 1.06)
          beyond(pen, box.x((at + 0.5) * width), at > first && rate(at - 1) > most * 1.06 ? "" : perSecond(rate(at)));
      }
    });
  };
  const point = (x, y, box) => {
    const at = Math.floor((view.from + (x - box.left) / box.scale) / width);
    if (!(at >= 0 && at < counts.ok.length)) return null;
    return {
      text: [
        `${seconds(at * width, 3)} to ${seconds((at + 1) * width, 3)}`,
        layers.map(name => `${counts[name][at]} ${name}`).join(", "),
        `${Math.round(rate(at))} a second`,
      ].join("\n"),
    };
  };
  const words = legend(["■", "ok", "ok"], ["▨", "fail", "fail: did not happen"], ["▧", "info", "info: unknown"]);
  return track({ name: "throughput", height: () => 92, paint, point, words });
}

const perSecond = rate => (rate >= 1000 ? `${+(rate / 1000).toPrecision(3)}k/s` : `${Math.round(rate)}/s`);

function beyond(pen, x, words) {
  pen.fillStyle = color("ink");
  pen.textAlign = "left";
  pen.fillText("↑", x - 3, 5);
  pen.textAlign = "right";
  pen.fillText(words, x - 6, 7);
}

const inView = (width, count) => [
  Math.max(0, Math.floor(view.from / width)),
  Math.min(count - 1, Math.floor(view.to / width)),
];

function scale(pen, box, most, y, words) {
  pen.textAlign = "right";
  for (const tick of ticks(0, most, 3).all) {
    pen.fillStyle = color("line");
    pen.fillRect(box.left, y(tick), box.right - box.left, 1);
    pen.fillStyle = color("dim");
    if (y(tick) > 4) pen.fillText(words(tick), box.left - 6, Math.min(y(tick), box.height - 6));
  }
}

function fastTrack() {
  const { width } = run.throughput,
    reads = plain(run.throughput.reads),
    fast = plain(run.throughput.fast);
  const paint = (pen, box) => {
    const y = share => box.height - 4 - share * (box.height - 10);
    scale(pen, box, 1, y, tick => `${Math.round(tick * 100)} %`);
    const [first, last] = inView(width, reads.length);
    inside(pen, box, () => {
      for (let at = first; at <= last; at++) {
        if (!reads[at]) continue;
        const left = box.x(at * width),
          wide = Math.max(box.x((at + 1) * width) - left, 1.5),
          top = y(fast[at] / reads[at]);
        pen.globalAlpha = 0.25;
        pen.fillStyle = color("fast");
        pen.fillRect(left, top, wide, box.height - 4 - top);
        pen.globalAlpha = 1;
        pen.fillRect(left, top - 1, wide, 2);
      }
    });
  };
  const point = (x, y, box) => {
    const at = Math.floor((view.from + (x - box.left) / box.scale) / width);
    return reads[at] ? { text: `${seconds(at * width, 3)}: ${fast[at]} of ${reads[at]} reads were fast` } : null;
  };
  const words = legend([
    "",
    "dim",
    "of the reads that were answered, those that a leader answered alone under its lease",
  ]);
  return track({ name: "share of fast reads", height: () => 50, paint, point, words });
}
