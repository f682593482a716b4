// Puts the page together, and listens to the keyboard.

function main() {
  const page = document.getElementById("page");
  page.replaceChildren();
  copyButton();
  page.append(head());
  const found = findings();
  if (found) page.append(found);
  const timeline = element("section", { id: "timeline" }, element("h2", {}, "The run over time"), toolbar());
  const parts = [
    faultTrack(),
    ...roleTracks(),
    throughputTrack(),
    fastTrack(),
    ...run.ways.map(latencyTrack),
    laneTrack(),
    clockTrack(),
  ];
  timeline.append(CROSS, ...parts.filter(part => part));
  page.append(timeline);
  const links = network();
  if (links) page.append(links);
  page.append(notes());
  addEventListener("resize", redraw);
  addEventListener("scroll", redraw, { passive: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    style.clear();
    patterns.clear();
    redraw();
  });
  document.addEventListener("keydown", keys);
  addEventListener("hashchange", follow);
  follow();
  redraw();
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const does = {
    "+": () => zoom(2),
    "=": () => zoom(2),
    "-": () => zoom(0.5),
    0: () => look(0, run.span),
    Escape: () => select(null),
    v: () => {
      const moment = violationMoment();
      if (moment) look(...moment);
    },
    ArrowLeft: event.shiftKey ? () => pan(-0.3) : null,
    ArrowRight: event.shiftKey ? () => pan(0.3) : null,
  }[event.key];
  if (does) does();
}

// `#op=LINE` selects the operation that was invoked on that line of the history; `#at=FROM-TO` looks at these seconds.
function follow() {
  const [, what, value] = /^#(op|at|selftest)=?(.*)$/.exec(location.hash) ?? [];
  if (what === "op") {
    const operation = operations.find(other => other.line === Number(value));
    if (operation && operation !== selected) {
      select(operation, true);
    }
  } else if (what === "at") {
    const [from, to] = value.split("-").map(text => Number(text) * 1e6);
    if (to > from) look(from, to);
  } else if (what === "selftest") {
    // not in a frame: a browser without a head, on a busy machine, may not come to draw one
    setTimeout(selftest);
  }
}

function notes() {
  const press = (name, words) => element("li", {}, element("kbd", {}, name), ` ${words}`);
  const section = element(
    "section",
    { id: "notes" },
    element("h2", {}, "How to read this, and what is not in it"),
    element(
      "ul",
      {},
      press("Tab", "to the lanes of operations"),
      press("← → ↑ ↓", "from operation to operation"),
      press("Enter", "zooms to it"),
      press("Esc", "lets go"),
      press("+ − 0", "zoom in, out, whole run"),
      press("Shift ← →", "moves in time"),
      press("v", "to the violation"),
    ),
  );
  const not = [
    ...(run.sample.left_out ? [run.sample.left_out] : []),
    ...(run.roles.left_out
      ? [`${run.roles.left_out} intervals of leaders, holds and grants are left out: there are too many.`]
      : []),
    "Times are seconds since the run began. Nodes' clocks differ; what they traced is shown on the common clock.",
    "Operations and intervals are drawn to the microsecond. Which came first the lines of the history say, not the drawing.",
    ...run.lacking.map(what => `Not there or not readable: ${what}`),
  ];
  section.append(element("ul", {}, ...not.map(words => element("li", {}, words))));
  return section;
}

try {
  main();
} catch (error) {
  complain(error.stack ?? String(error));
  throw error;
}
