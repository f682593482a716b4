// The table of runs: filter, order, keyboard.
"use strict";

// Rows that are made at once; more on demand.
const PAGE = 300;

const COLUMNS = [
  { key: "state", label: "verdict", value: run => Object.keys(STATES).indexOf(run.state) * 2 + (run.as_expected ? 1 : 0) },
  { key: "workload", label: "workload", value: run => `${run.campaign ?? ""} ${run.workload}` },
  { key: "seed", label: "seed", value: run => run.seed, number: true },
  { key: "operations", label: "operations", value: run => run.operations, number: true },
  { key: "faults", label: "faults", value: run => run.faults, number: true },
  { key: "seconds", label: "duration", value: run => run.seconds, number: true },
  { key: "began", label: "when", value: run => run.began, number: true },
  { key: "bytes", label: "size", value: run => run.bytes, number: true },
];

let runs = [];
let most = PAGE;
let last = null;
// What is looked at stands in the address, so that going back comes back to it.
const asked = new URLSearchParams(location.search);
const view = {
  text: asked.get("text") ?? "",
  state: asked.get("state") ?? "",
  unexpected: asked.has("unexpected"),
  sort: COLUMNS.some(column => column.key === asked.get("sort")) ? asked.get("sort") : "began",
  up: asked.has("up"),
};

const at = id => document.getElementById(id);

function start() {
  at("text").value = view.text;
  at("unexpected").checked = view.unexpected;
  at("text").addEventListener("input", () => look({ text: at("text").value }));
  at("unexpected").addEventListener("change", () => look({ unexpected: at("unexpected").checked }));
  at("more").addEventListener("click", () => {
    most += PAGE;
    show();
  });
  for (const column of COLUMNS) {
    const sort = () => look({ sort: column.key, up: view.sort === column.key ? !view.up : !column.number });
    const button = element("button", { type: "button", onclick: sort }, column.label);
    at("columns").append(element("th", { class: column.number ? "number" : null, "data-key": column.key }, button));
  }
  at("columns").append(element("th", {}, "files"));
  document.addEventListener("keydown", keys);
  poll("/api/runs", 3000, answer => {
    at("folder").textContent = answer.folder;
    document.title = `Runs in ${answer.folder.split("/").pop()}`;
    // nothing is made anew under the pointer unless something has changed
    const text = JSON.stringify(answer);
    if (text === last) return;
    last = text;
    runs = answer.runs;
    facts(answer);
    show();
  });
}

function look(change) {
  Object.assign(view, change);
  most = PAGE;
  const words = new URLSearchParams();
  if (view.text) words.set("text", view.text);
  if (view.state) words.set("state", view.state);
  if (view.unexpected) words.set("unexpected", "");
  if (view.sort !== "began") words.set("sort", view.sort);
  if (view.up) words.set("up", "");
  history.replaceState(null, "", words.size ? `?${words}` : location.pathname);
  show();
}

function facts(answer) {
  const total = runs.reduce((sum, run) => sum + run.bytes, 0);
  const going = runs.filter(run => run.goes);
  const words = [element("b", {}, count(runs.length)), ` runs, ${bytes(total)}`];
  const running = runs.filter(run => run.state === "running").length;
  if (running) words.push(" · ", element("b", {}, String(running)), " going on");
  const wrong = runs.filter(unexpected).length;
  if (wrong) words.push(" · ", element("b", {}, count(wrong)), " not as expected");
  if (answer.cut) words.push(" · there are more, which are not listed");
  const prune = element("code", {}, `harness prune --keep ${answer.keep}`);
  if (going.length) {
    words.push(" · ", prune, ` would remove the ${count(going.length)} marked ◌ (${bytes(answer.would_free)})`);
  } else words.push(" · ", prune, " would remove nothing");
  at("facts").replaceChildren(...words);
}

// A run that is over and has not ended as its workload expects, or does not say.
function unexpected(run) {
  return run.state !== "running" && run.as_expected !== true;
}

function fits(run, words) {
  const text = [run.workload, run.campaign, run.seed, run.words, run.place, STATES[run.state]].join(" ").toLowerCase();
  return words.every(word => text.includes(word));
}

function show() {
  const words = view.text.toLowerCase().split(/\s+/).filter(word => word);
  const found = runs.filter(run => fits(run, words) && (!view.unexpected || unexpected(run)));
  states(found);
  const chosen = found.filter(run => !view.state || run.state === view.state);
  const { value } = COLUMNS.find(column => column.key === view.sort);
  const order = (one, other) => {
    const [a, b] = [value(one), value(other)];
    // what is not known stands last, whichever way
    if (a === null || b === null) return (a === null) - (b === null);
    const by = typeof a === "string" ? a.localeCompare(b) : a - b;
    return (view.up ? by : -by) || other.began - one.began || one.place.localeCompare(other.place);
  };
  chosen.sort(order);
  for (const head of at("columns").children) {
    const sorted = head.dataset.key === view.sort ? (view.up ? "ascending" : "descending") : null;
    if (sorted) head.setAttribute("aria-sort", sorted);
    else head.removeAttribute("aria-sort");
  }
  const focused = document.activeElement?.closest?.("#rows tr")?.dataset.place;
  at("rows").replaceChildren(...chosen.slice(0, most).map(row));
  if (focused !== undefined) {
    [...at("rows").children].find(row => row.dataset.place === focused)?.querySelector("a").focus();
  }
  at("more").hidden = chosen.length <= most;
  at("more").textContent = `${count(chosen.length - most)} more`;
  at("runs").hidden = chosen.length === 0;
  at("none").hidden = chosen.length > 0;
  at("none").textContent = runs.length
    ? "No run is like that."
    : "There is no run yet. cargo run --release -p harness -- workloads/smoke.toml makes one, in half a minute.";
}

function states(found) {
  const button = (state, label) => {
    const number = state ? found.filter(run => run.state === state).length : found.length;
    const chosen = view.state === state;
    if (!number && !chosen && state) return null;
    const attributes = { type: "button", "aria-pressed": String(chosen), "data-state": state, onclick: () => look({ state }) };
    return element("button", attributes, `${label} `, element("b", {}, count(number)));
  };
  const focused = document.activeElement?.dataset?.state;
  const buttons = [button("", "all"), ...Object.entries(STATES).map(([state, label]) => button(state, label))];
  at("states").replaceChildren(...buttons.filter(button => button));
  if (focused !== undefined) at("states").querySelector(`[data-state="${focused}"]`)?.focus();
}

function row(run) {
  const found = run.as_expected === true && run.state === "violation" ? " expected" : "";
  const expected = found ? element("span", { class: "dim" }, found) : null;
  const name = element("a", { href: path("run", run.place), title: run.words }, run.workload);
  const before = run.campaign ? element("span", { class: "dim campaign" }, `${run.campaign}: `) : null;
  const simulated = run.simulated ? element("span", { class: "tag", title: "in simulated time" }, "sim") : null;
  const why = `${run.foreign} stands in it: it is not removed`;
  const kept = run.foreign ? element("span", { class: "tag", title: why }, "kept") : null;
  const goes = run.goes ? element("span", { class: "goes", title: "would be removed" }, " ◌") : null;
  const words = run.as_expected === true || !run.words ? null : element("div", { class: "words dim" }, run.words);
  const cell = (label, text, title) => element("td", { class: "number", "data-label": label, title }, text);
  const links = [
    run.report ? element("a", { href: path("file", run.place, "report.html"), class: "report" }, "report") : null,
    element("a", { href: path("file", run.place, "history.jsonl") }, "history"),
    element("a", { href: path("file", run.place, "plan.toml") }, "plan"),
  ];
  return element(
    "tr",
    { class: run.goes ? "goes" : null, "data-place": run.place },
    element("td", { class: "verdict" }, badge(run), expected),
    element("td", { class: "name" }, before, name, simulated, kept, words),
    cell("seed", run.seed === null ? "–" : String(run.seed)),
    cell("operations", count(run.operations)),
    cell("faults", count(run.faults)),
    cell("duration", duration(run.seconds)),
    cell("when", ago(run.began), moment(run.began)),
    element("td", { class: "number", "data-label": "size" }, bytes(run.bytes), goes),
    element("td", { class: "links" }, ...links.filter(link => link).flatMap(link => [link, " "])),
  );
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const here = document.activeElement;
  if (event.key === "Escape") {
    look({ text: "", state: "", unexpected: false });
    at("text").value = "";
    at("unexpected").checked = false;
    here?.blur();
    return;
  }
  const rows = [...at("rows").children];
  const current = rows.indexOf(here?.closest?.("tr"));
  const typing = here === at("text");
  const go = to => {
    event.preventDefault();
    rows[Math.max(0, Math.min(rows.length - 1, to))]?.querySelector("a").focus();
  };
  if (event.key === "ArrowDown" || (event.key === "j" && !typing)) go(current + 1);
  else if (event.key === "ArrowUp" || (event.key === "k" && !typing)) go(current < 0 ? 0 : current - 1);
  else if (event.key === "r" && !typing && current >= 0) rows[current].querySelector(".report")?.click();
  else if (event.key === "/" && !typing) {
    event.preventDefault();
    at("text").select();
  }
}

start();
