// Who led each partition, who held its lease and who had granted it: a row for each replica.

const ROLE_WORDS = { leads: "leads", holds: "holds the lease", grants: "has granted the lease" };

function roleWords(role) {
  const own =
    role.own === null
      ? ""
      : `\nthe lease ends at ${seconds(role.own, 4)} of its own clock, renewed ${role.renewed} times`;
  const until =
    role.to > run.span * 4
      ? "for ever: its clock never gets there"
      : `to ${seconds(role.to, 4)} on the common clock (${role.end})`;
  const what = `node ${role.node} ${ROLE_WORDS[role.role]}, partition ${role.partition}`;
  return `${what}\nballot ${role.ballot}, boot ${role.boot}\n${seconds(role.from, 4)} ${until}${own}`;
}

function roleTrack(partition) {
  const rows = run.roles.replicas[partition];
  const its = run.roles.intervals.filter(role => role.partition === partition);
  const paint = (pen, box) => {
    pen.textAlign = "right";
    rows.forEach((node, row) => {
      pen.fillStyle = color("dim");
      pen.fillText(`node ${node}`, box.left - 6, row * ROW + 8);
      pen.fillStyle = color("line");
      pen.fillRect(box.left, (row + 1) * ROW, box.right - box.left, 1);
    });
    pen.textAlign = "left";
    inside(pen, box, () => {
      for (const role of its) paintRole(pen, box, role, rows.indexOf(role.node) * ROW);
      gone(pen, box, rows);
      for (const role of its.filter(role => role.role === "leads"))
        leaderName(pen, box, role, rows.indexOf(role.node) * ROW);
      pen.fillStyle = color("ink");
      for (const [node, boot, time] of run.roles.starts) {
        if (boot > 1 && rows.includes(node)) pen.fillText("▲", box.x(time) - 4, rows.indexOf(node) * ROW + ROW / 2);
      }
    });
  };
  const point = (x, y, box) => {
    const there = role =>
      x >= box.x(role.from) - 1 && x <= box.x(role.to) + 1 && rows[Math.floor(y / ROW)] === role.node;
    const near = its.filter(there);
    if (!near.length) return null;
    const low = y % ROW > ROW - 6;
    const chosen = near.find(role => low === (role.role === "grants")) ?? near[0];
    const all = near.filter(role => role === chosen || role.role !== "grants");
    const press = () => look(chosen.from - 1e5, Math.min(chosen.to, run.span) + 1e5);
    return { text: all.map(roleWords).join("\n\n"), press };
  };
  return track({ name: `partition ${partition}`, height: () => rows.length * ROW + 2, paint, point });
}

// A row of a replica: it leads (filled), under that it holds the lease (a bar with an end), and at its foot what it has granted.
const ROW = 21;

function paintRole(pen, box, role, top) {
  const from = box.x(role.from),
    to = Math.min(box.x(role.to), box.right + 9);
  if (to < box.left || from > box.right) return;
  const wide = Math.max(to - from, 1.5);
  if (role.role === "grants") {
    const holder = Number(role.ballot.split("@n")[1]);
    pen.fillStyle = nodeColor(holder);
    pen.fillRect(from, top + 18, wide, 2);
  } else if (role.role === "leads") {
    pen.fillStyle = nodeColor(role.node);
    pen.fillRect(from, top + 2, wide, 11);
  } else {
    pen.fillStyle = color("ink");
    pen.fillRect(from, top + 14, wide, 2);
    pen.fillRect(to - 1, top + 11, 2, 6);
  }
}

function leaderName(pen, box, role, top) {
  const x = Math.max(box.x(role.from), box.left) + 5,
    words = `leads · ${role.ballot}`;
  if (box.x(Math.min(role.to, run.span)) - x < pen.measureText(words).width + 6) return;
  pen.fillStyle = color("page");
  pen.fillText(words, x, top + 8);
}

// Nodes that are dead or stand still.
function gone(pen, box, rows) {
  const hatch = (node, since, until, word) => {
    const row = rows.indexOf(node);
    if (row < 0) return;
    const from = box.x(since),
      wide = Math.max(box.x(until) - from, 2);
    if (from > box.right || from + wide < box.left) return;
    pen.fillStyle = stripes(pen, color("dim"), word === "dead" ? 1 : -1, 4);
    pen.fillRect(from, row * ROW + 1, wide, ROW - 2);
    if (wide < 46) return;
    const x = Math.max(from, box.left) + 4;
    pen.fillStyle = color("panel");
    pen.fillRect(x, row * ROW + 3, pen.measureText(word).width + 6, ROW - 6);
    pen.fillStyle = color("ink");
    pen.fillText(word, x + 3, row * ROW + ROW / 2);
  };
  for (const [node, from, to] of run.roles.dead) hatch(node, from, to, "dead");
  for (const fault of run.faults.filter(({ action }) => action === "pause"))
    for (const node of fault.nodes) hatch(node, fault.from, goesOn(fault, node), "paused");
}

// When a paused node goes on: at the end of the pause, or when another fault has it resume.
function goesOn({ from, to }, node) {
  const resumed = run.faults.filter(
    fault => fault.action === "resume" && fault.nodes.includes(node) && fault.from > from,
  );
  return Math.min(to ?? run.span, ...resumed.map(fault => fault.from));
}

function roleTracks() {
  const made = Object.keys(run.roles.replicas).map(partition => roleTrack(Number(partition)));
  if (!made.length)
    return [
      element("p", { class: "note" }, "The run has left no traces: who led and who held leases is not recorded."),
    ];
  const words = legend(
    ["■", "n1", "leads (colour and row: the node)"],
    ["▬", "ink", "holds the lease"],
    ["▁", "n2", "has granted it (colour: to whom)"],
    ["▲", "ink", "started again"],
    ["▨", "dim", "dead or paused"],
  );
  made[0].firstChild.append(words);
  return made;
}
