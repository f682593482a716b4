// Below the verdict: what each check said, what was missing, what the run was.

const SIGNS = { valid: "✓ valid", violation: "✗ violation", unknown: "? unknown" };

function head() {
  const { verdict } = run;
  const section = element("section", { id: "checks" });
  section.append(facts());
  const expected =
    verdict.as_expected === null
      ? null
      : `This is ${verdict.as_expected ? "" : "not "}what the workload expects; exit code ${verdict.exit_code}.`;
  if (expected) section.append(element("p", {}, expected));
  for (const death of verdict.deaths) section.append(element("p", { class: "finding" }, death));
  if (verdict.checks.length) {
    section.append(
      element(
        "table",
        {},
        ...verdict.checks.map(check =>
          element(
            "tr",
            {},
            element("td", {}, check.name),
            element("td", { class: `status ${check.status}` }, SIGNS[check.status] ?? check.status),
            element("td", {}, check.words),
          ),
        ),
      ),
    );
  }
  for (const missing of verdict.missing)
    section.append(element("p", { class: "status unknown" }, `missing: ${missing}`));
  for (const check of verdict.checks.filter(check => check.findings.length)) {
    const all = check.findings.map(finding => element("pre", {}, finding));
    const many = check.findings.length;
    section.append(
      element("details", {}, element("summary", {}, `what ${check.name} found, in words (${many})`), ...all),
    );
  }
  return section;
}

function facts() {
  const line = element("p", { class: "facts" });
  const counts = ["ok", "fail", "info"].map(
    name => `${plain(run.throughput[name]).reduce((sum, count) => sum + count, 0)} ${name}`,
  );
  const open = operations.filter(operation => operation.outcome === "open").length;
  if (open) counts.push(`${open} never ended`);
  const entries = [
    ["", run.simulated ? "simulated time" : "real processes"],
    ["lasted", seconds(run.span, 1)],
    ["operations", counts.join(", ")],
    ["nodes", run.nodes.length],
    ["clients", run.operations.clients.length],
    ["partitions", Object.keys(run.roles.replicas).length || null],
    ["faults", run.faults.length],
    ["planted bug", run.verdict.mutant],
    ["folder", run.folder],
  ];
  for (const [name, value] of entries) {
    if (value !== null) line.append(`${name} `, element("b", {}, String(value)), "  ·  ");
  }
  line.lastChild.remove();
  return run.about ? element("div", {}, element("p", {}, run.about), line) : line;
}

function copyButton() {
  const button = document.getElementById("copy");
  button.addEventListener("click", async () => {
    const code = document.getElementById("again");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      // a file may not be allowed to
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => {
      button.textContent = "copy";
    }, 1500);
  });
}
