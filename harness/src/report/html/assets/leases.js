// Events that contradict the rules of leases and logs, and who led and held the lease around them.

function leaseFinding({ invariant, text, evidence }) {
  const box = element("div", { class: "finding" }, element("h3", {}, `${invariant}: ${text}`));
  box.append(
    element(
      "table",
      {},
      ...evidence.map((mark, at) =>
        element(
          "tr",
          {},
          element("td", {}, element("b", {}, `${at + 1}`)),
          element("td", { class: "mono" }, seconds(mark.time)),
          element("td", { class: "mono dim" }, `${mark.file}:${mark.line}`),
          element("td", { class: "mono any" }, marked(mark)),
        ),
      ),
    ),
  );
  const times = evidence.map(mark => mark.time).filter(time => time >= 0);
  const picture = leasePicture(evidence);
  if (picture)
    box.append(
      element("div", { class: "scroll" }, picture),
      element(
        "p",
        { class: "note" },
        "Filled: leads. Bar below: holds the lease, until its end on the node's own clock, as the common clock shows it. ",
        "Thin line: has granted it, in the colour of the holder. Numbers: the events above.",
      ),
    );
  if (times.length) {
    const from = Math.min(...times),
      to = Math.max(...times),
      margin = Math.max((to - from) * 0.2, 20000);
    box.append(
      element(
        "button",
        {
          type: "button",
          onclick: () => {
            look(from - margin, to + margin);
            document.getElementById("timeline").scrollIntoView();
          },
        },
        "on the time axis",
      ),
    );
  }
  return box;
}

// Who led, held and had granted the lease around the events, in true proportions.
function leasePicture(evidence) {
  const known = evidence.map(traced).find(event => event?.partition),
    times = evidence.map(mark => mark.time);
  const rows = known && run.roles.replicas[known.partition];
  if (!rows) return null;
  const margin = Math.max((Math.max(...times) - Math.min(...times)) * 0.6, 50000),
    from = Math.min(...times) - margin,
    to = Math.max(...times) + margin;
  const left = 74,
    wide = Math.max(document.getElementById("page").clientWidth - 60, 560),
    tall = 30 + rows.length * 34;
  const x = time => left + ((Math.min(Math.max(time, from), to) - from) / (to - from)) * (wide - left - 10);
  const picture = svg("svg", {
    width: wide,
    height: tall,
    viewBox: `0 0 ${wide} ${tall}`,
    role: "img",
    "aria-label": "leases around these events",
  });
  rows.forEach((node, row) =>
    picture.append(
      svg("text", { x: 2, y: row * 34 + 20 }, `node ${node}`),
      svg("line", { x1: left, x2: wide - 10, y1: row * 34 + 32, y2: row * 34 + 32, stroke: color("line") }),
    ),
  );
  for (const role of run.roles.intervals.filter(
    role => role.partition === known.partition && role.to >= from && role.from <= to,
  )) {
    const top = rows.indexOf(role.node) * 34,
      begin = x(role.from),
      end = x(role.to),
      holder = Number(role.ballot.split("@n")[1]);
    const [y, high, fill] = {
      leads: [top + 6, 14, nodeColor(role.node)],
      holds: [top + 21, 3, color("ink")],
      grants: [top + 28, 2, nodeColor(holder)],
    }[role.role];
    picture.append(
      svg(
        "rect",
        { x: begin, y, width: Math.max(end - begin, 1.5), height: high, fill },
        svg("title", {}, roleWords(role)),
      ),
    );
    if (role.role === "holds" && role.to < to)
      picture.append(
        svg("rect", { x: end - 1, y: top + 17, width: 2, height: 11, fill }),
        svg(
          "text",
          { x: end + 4, y: top + 27, "font-size": 10 },
          `until ${seconds(role.to, 4)}, own clock ${seconds(role.own, 4)}`,
        ),
      );
    if (role.role === "leads" && end - begin > 110)
      picture.append(
        svg(
          "text",
          { x: begin + 5, y: top + 17, style: `fill:${color("page")};font-size:11px` },
          `leads · ${role.ballot}`,
        ),
      );
  }
  evidence.forEach((mark, at) =>
    picture.append(
      svg("line", {
        x1: x(mark.time),
        x2: x(mark.time),
        y1: 0,
        y2: tall - 20,
        stroke: color("bad"),
        "stroke-width": 1.5,
        "stroke-dasharray": "4 3",
      }),
      svg(
        "text",
        { x: x(mark.time), y: tall - 6, "text-anchor": "middle", style: `fill:${color("bad")};font-weight:700` },
        `${at + 1}`,
      ),
    ),
  );
  return picture;
}

// The event of a trace that a piece of evidence quotes.
function traced({ text }) {
  const json = /^node \d+ (\{.*\})$/.exec(text)?.[1];
  try {
    return json ? JSON.parse(json) : null;
  } catch {
    return null;
  }
}

// A traced event without the punctuation of JSON.
function marked(mark) {
  const event = traced(mark);
  if (!event) return mark.text;
  const { kind, ballot, hashes, ...others } = event;
  const own = ["until", "received", "checked", "expiry", "local"]; // moments of the node's own clock, in nanoseconds
  const word = (name, value) =>
    own.includes(name)
      ? `${name} ${seconds((value - run.origin) / 1000)} of its own clock`
      : `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`;
  const words = Object.entries(others).map(([name, value]) => word(name, value));
  if (ballot) words.unshift(`${ballot.config}.${ballot.number}.${ballot.priority}@n${ballot.node}`);
  return `${mark.text.split(" {")[0]} ${kind} ${words.join(", ")}`;
}
