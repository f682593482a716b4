// How a run goes: figures, throughput over time with the faults behind it, who leads, what happened last.
"use strict";

function follow(place, over) {
  const section = document.getElementById("live");
  section.hidden = false;
  poll(path("api/live", place), 1000, live => {
    section.replaceChildren(
      element("h2", {}, live.running ? "As it goes" : "As it went"),
      tiles(live),
      live.behind ? element("p", { class: "note" }, `${bytes(live.behind)} of what it has written are still being read`) : "",
      live.unreadable ? element("p", { class: "note" }, `${count(live.unreadable)} lines are no record`) : "",
      chart(live),
      element("div", { class: "columns" }, leaders(live), outcomes(live), happened(live)),
    );
    if (live.running || live.behind) return true;
    over();
    return false;
  });
}

// In the last second or so; the last stretch is still filling.
function rate(live, kind) {
  const { width, counts } = live.throughput;
  const last = counts.slice(-Math.max(2, 1 + Math.round(1000 / width)), -1);
  return last.reduce((sum, of) => sum + of[kind], 0) / Math.max((last.length * width) / 1000, 1e-3);
}

function tiles(live) {
  const tile = (label, value, kind) =>
    element("div", { class: `tile ${kind ?? ""}` }, element("span", {}, label), element("b", {}, value));
  const force = live.in_force.map(fault => fault.words).join("; ");
  const box = element("div", { class: "tiles" },
    tile("time", duration(live.seconds)),
    tile("phase", live.phase ?? "booting"),
    tile("answered a second", count(Math.round(rate(live, 0)))),
    tile("open", count(live.open)),
    tile("faults so far", count(live.faults)),
    tile("in force", force || "none", live.in_force.length ? "fault wide" : "wide"));
  box.querySelector(".wide").id = "force";
  return box;
}

const WIDE = 1000;
const HIGH = { ok: 130, few: 34 };

function chart(live) {
  const { counts } = live.throughput;
  const width = live.throughput.width / 1000;
  const span = Math.max(live.seconds, counts.length * width, 10);
  const x = seconds => (seconds / span) * WIDE;
  const rows = [
    ["ok", 0, "answered", HIGH.ok],
    ["fail", 1, "failed", HIGH.few],
    ["info", 2, "unknown", HIGH.few],
  ];
  const box = element("div", { class: "chart", id: "chart" });
  for (const [kind, at, label, high] of rows) {
    const most = Math.max(...counts.map(of => of[at]), 0);
    const svg = drawn("svg", { viewBox: `0 0 ${WIDE} ${high}`, preserveAspectRatio: "none", class: kind, role: "img" });
    svg.append(drawn("title", {}, `${label} operations a second over time`));
    for (const fault of [...live.undone, ...live.in_force]) {
      const from = x(fault.since);
      const to = x(fault.until ?? span);
      const band = drawn("rect", { x: from, width: Math.max(to - from, 1), y: 0, height: high, class: "band" });
      band.append(drawn("title", {}, `${fault.words}, from ${fault.since.toFixed(1)} s`));
      svg.append(band);
    }
    for (const [stretch, of] of counts.entries()) {
      if (!of[at]) continue;
      const tall = Math.max((of[at] / most) * (high - 2), 1);
      const across = { x: x(stretch * width) + 0.4, width: Math.max(x(width) - 0.8, 0.6) };
      svg.append(drawn("rect", { ...across, y: high - tall, height: tall, class: "bar" }));
    }
    const scale = most ? `up to ${count(Math.round(most / width))}/s` : "none";
    box.append(element("div", { class: "plot" }, element("span", { class: `label ${kind}` }, `${label}, ${scale}`), svg));
  }
  const ends = [element("span", {}, "0 s"), element("span", {}, duration(span))];
  box.append(element("div", { class: "ends dim" }, ...ends));
  if (live.undone.length + live.in_force.length) {
    box.append(element("p", { class: "note" }, element("span", { class: "swatch" }), " while a fault is in force"));
  }
  return box;
}

function leaders(live) {
  const row = ([partition, leader]) => element("tr", {},
    element("td", {}, `partition ${partition}`),
    leader
      ? element("td", {}, element("b", { class: `node n${((leader.node - 1) % 8) + 1}` }, `node ${leader.node}`))
      : element("td", { class: "dim" }, "nobody"),
    element("td", { class: "mono" }, leader?.ballot ?? ""),
    element("td", { class: "number dim" }, leader ? `since ${leader.since.toFixed(1)} s` : ""));
  const rows = Object.entries(live.leaders).map(row);
  return element("div", { id: "leaders" }, element("h3", {}, "Who leads, as the nodes say"),
    rows.length ? element("table", {}, ...rows) : element("p", { class: "dim" }, "nobody yet"));
}

function outcomes(live) {
  const head = ["", "ok", "fail", "info"].map((word, at) => element("th", { class: at ? "number" : null }, word));
  const row = ([kind, of]) => element("tr", {}, element("td", {}, kind),
    ...["ok", "fail", "info"].map(outcome => element("td", { class: "number" }, count(of[outcome]))));
  return element("div", { id: "outcomes" }, element("h3", {}, "Operations"),
    element("table", {}, element("tr", {}, ...head), ...Object.entries(live.operations).map(row)),
    element("p", { class: "dim" }, `${count(live.fast_reads)} fast reads`));
}

function happened(live) {
  const row = event => element("tr", {},
    element("td", { class: "number dim" }, `${event.at.toFixed(1)} s`),
    element("td", {}, event.what), element("td", { class: "any" }, event.words));
  return element("div", { id: "happened" }, element("h3", {}, "What happened last"),
    element("table", {}, ...live.events.slice(0, 14).map(row)));
}
