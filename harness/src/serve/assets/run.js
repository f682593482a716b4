// One run: what it has come to, how it goes if it is going on, and what it has left.
"use strict";

const place = location.pathname.replace(/^\/run\//, "").split("/").map(decodeURIComponent).join("/");
const at = id => document.getElementById(id);

// What each file holds, in the order in which one looks at them.
const FILES = [
  [/^report\.html$/, "the run at a glance: why the verdict is what it is"],
  [/^verdict\.json$/, "verdict, checks and figures (harness explain-verdict says what each field means)"],
  [/^plan\.toml$/, "cluster, clients, operations and faults of this run; it can be run again"],
  [/^history\.jsonl$/, "operations, faults and phases, a record a line, in the order of time"],
  [/^links\.json$/, "what the proxy did on each link"],
  [/^messages(-earlier)?\.bin$/, "messages between nodes (harness inspect --messages shows them)"],
  [/^tale\.txt$/, "what happened, in words"],
  [/^logs\//, "what a node logged"],
  [/^trace\//, "protocol events of a node"],
  [/^data\//, "a node's configuration and disk"],
  [/./, ""],
];

let following = false;

function main() {
  copies(at("copy"), at("again"));
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") location.assign("/");
  });
  load();
}

function load() {
  poll(path("api/run", place), 2000, run => {
    headline(run);
    found(run);
    files(run);
    // of a run that was killed nothing else tells how it went
    const untold = run.state === "running" || (run.state === "no-verdict" && !run.report);
    if (untold && !following) follow(place, load);
    following ||= untold;
    return false;
  });
}

function headline(run) {
  document.title = `${STATES[run.state]} ${run.workload} ${run.seed ?? ""}`;
  const words = run.words || (run.state === "no-verdict" ? MEANS["no-verdict"] : "");
  const what = `${run.simulated ? "simulated " : ""}${run.workload}${run.seed === null ? "" : ` seed ${run.seed}`}`;
  at("headline").replaceChildren(badge(run), ` ${what}${words ? `: ${words}` : ""}`);
  at("report").hidden = !run.report;
  at("report").href = path("file", place, "report.html");
  at("how").hidden = !run.again;
  at("again").textContent = run.again ?? "";
  const facts = [
    moment(run.began),
    run.operations === null ? null : `${count(run.operations)} operations`,
    run.faults === null ? null : `${count(run.faults)} faults`,
    run.seconds === null ? null : duration(run.seconds),
    bytes(run.bytes),
    run.mutant ? `planted bug: ${run.mutant}` : null,
    run.foreign ? `never removed by harness prune, since it holds ${run.foreign}` : null,
  ];
  const folder = element("span", { class: "mono" }, run.folder);
  at("facts").replaceChildren(facts.filter(fact => fact).join(" · "), element("br"), folder);
}

function found(run) {
  const section = at("found");
  section.replaceChildren();
  const lists = [
    ["Nodes that ended by themselves", run.deaths],
    ["The run lacks", run.missing],
  ];
  for (const [title, items] of lists.filter(([, items]) => items.length)) {
    const list = items.map(item => element("li", {}, element("pre", {}, item)));
    section.append(element("h2", {}, title), element("ul", {}, ...list));
  }
  if (run.checks.length) section.append(element("h2", {}, "Checks"), element("table", {}, ...run.checks.map(check)));
  section.hidden = !section.children.length;
}

function check({ name, status, words, findings }) {
  const list = findings.length
    ? element("details", { open: status !== "valid" && findings.length < 4 },
        element("summary", {}, findings.length === 1 ? "1 finding" : `${findings.length} findings`),
        ...findings.map(finding => element("pre", { class: "finding" }, finding)))
    : null;
  const mark = { valid: "✓ ", violation: "✗ ", unknown: "? " }[status] ?? "";
  return element("tr", {},
    element("td", {}, name),
    element("td", { class: `status ${status}` }, `${mark}${status}`),
    element("td", { class: "any" }, words, list));
}

function files(run) {
  const rank = file => FILES.findIndex(([pattern]) => pattern.test(file.name));
  const byName = (one, other) => one.name.localeCompare(other.name, "en", { numeric: true });
  const sorted = [...run.files].sort((one, other) => rank(one) - rank(other) || byName(one, other));
  const row = file => element("tr", {},
    element("td", {}, element("a", { href: path("file", place, file.name) }, file.name)),
    element("td", { class: "number" }, bytes(file.bytes)),
    element("td", { class: "any dim" }, FILES[rank(file)][1]));
  const own = sorted.filter(file => !file.name.startsWith("data/"));
  const disks = sorted.filter(file => file.name.startsWith("data/"));
  at("files").replaceChildren(element("h2", {}, "Files"), element("table", { class: "files" }, ...own.map(row)));
  if (disks.length) {
    const title = element("summary", {}, `data/: the nodes' configurations and disks, ${disks.length} files`);
    at("files").append(element("details", {}, title, element("table", { class: "files" }, ...disks.map(row))));
  }
  if (run.cut) at("files").append(element("p", { class: "note" }, "There are more files, which are not listed."));
}

main();
