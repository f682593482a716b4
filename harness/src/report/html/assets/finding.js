// What a failing run fails of: the few operations that have no order, with the order that gets furthest; the events that
// contradict the leases; and what happened around them.

function findings() {
  const { keys, leases, sessions, spacetime } = run.findings;
  const words = inWords();
  if (!keys.length && !leases.length && !sessions.length && !words.length) return null;
  const isWrong = run.verdict.verdict === "violation";
  const section = element("section", { id: "findings" }, element("h2", {}, isWrong ? "What is wrong" : "What is open"));
  if (keys.length) section.append(keyFinding(keys[0]));
  else if (sessions.length) section.append(sessionFinding(sessions[0]));
  else if (leases.length) section.append(leaseFinding(leases[0]));
  section.append(...words);
  if (spacetime) section.append(spaceTime(spacetime));
  fold(section, keys.slice(1).map(keyFinding), run.findings.keys_in_all, "keys in all have no order");
  fold(
    section,
    sessions.slice(keys.length ? 0 : 1).map(sessionFinding),
    run.findings.sessions_in_all,
    "promises to clients in all are broken",
  );
  fold(
    section,
    leases.slice(keys.length || sessions.length ? 0 : 1).map(leaseFinding),
    run.findings.leases_in_all,
    "violations of the rules of leases and logs in all",
  );
  return section;
}

// What checks have found of which there is no picture.
function inWords() {
  const { keys, leases, sessions } = run.findings;
  const drawn = { linearizable: keys.length, "lease-safety": leases.length, sequential: sessions.length };
  const open = run.verdict.checks.filter(
    check => check.status !== "valid" && !drawn[check.name] && check.findings.length,
  );
  return open.map(check =>
    element(
      "div",
      { class: `finding ${check.status}` },
      element("h3", {}, `${check.name}: ${check.words}`),
      ...check.findings
        .slice(0, 5)
        .filter(finding => finding !== check.words)
        .map(finding => element("pre", {}, finding)),
      check.findings.length > 5 ? element("p", { class: "note" }, `… and ${check.findings.length - 5} more`) : null,
    ),
  );
}

// Further findings of a kind, folded away: the first of all is what one reads.
function fold(section, more, inAll, words) {
  if (!inAll || (!more.length && inAll < 2)) return;
  const shown = more.length ? `: ${more.length} more of them` : "; the others are in verdict.json";
  section.append(element("details", {}, element("summary", {}, `${inAll} ${words}${shown}`), ...more));
}

function sessionFinding(session) {
  const operation = operations[session.operation];
  return element(
    "div",
    { class: "finding" },
    element("pre", {}, session.text),
    operation
      ? element("button", { type: "button", onclick: () => select(operation, true) }, "show the operation")
      : null,
  );
}

function keyFinding(finding) {
  const culprit = finding.culprit === null ? null : operations[finding.operations[finding.culprit]];
  const box = element(
    "div",
    { class: "finding" },
    element("h3", {}, `Key ${finding.key}: these ${finding.operations.length} operations have no order`),
  );
  const words = finding.text.trim().split("\n");
  box.append(element("p", {}, words.at(-1)));
  const window = element("div", { class: "scroll" }, subHistory(finding));
  requestAnimationFrame(() => {
    window.scrollLeft = window.scrollWidth;
  }); // what cannot be placed is last
  box.append(window);
  box.append(
    element(
      "p",
      { class: "note" },
      "Each bar is an operation from when it was asked until it was answered; a dashed one was not, and may have happened at any later time. ",
      finding.furthest.length
        ? "Numbered points are the order that gets furthest; below each stands what the key holds behind it. "
        : "No order was looked for: too many operations. ",
      culprit ? "✗ cannot be placed: wherever it stood, its answer would not fit. " : "",
      "Time is stretched: the order of ends is right, distances are not.",
    ),
  );
  const around = [...finding.operations.map(at => operations[at])];
  const from = Math.min(...around.map(operation => operation.invoked)),
    to = Math.max(...around.map(operation => operation.ended ?? operation.invoked));
  const near = culprit ? [culprit.invoked - 20000, endOf(culprit) + 20000] : [from, to];
  const there = () => document.getElementById("timeline").scrollIntoView();
  box.append(
    element(
      "p",
      {},
      element(
        "button",
        {
          type: "button",
          onclick: () => {
            look(from - (to - from) / 20, to + (to - from) / 20);
            there();
          },
        },
        "all of it on the time axis",
      ),
      " ",
      element(
        "button",
        {
          type: "button",
          onclick: () => {
            look(...near);
            there();
          },
        },
        "around ✗",
      ),
    ),
  );
  box.append(element("details", {}, element("summary", {}, "in words"), element("pre", {}, finding.text)));
  return box;
}
