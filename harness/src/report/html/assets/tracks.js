// What the whole run did over time: faults, leaders and leases, throughput, fast reads, latencies, clocks.

function faultRows() {
  const rows = [];
  return run.faults.filter(fault => fault.action !== "heal").map(fault => {
    let row = rows.findIndex(end => end <= fault.from);
    if (row < 0) row = rows.length < 6 ? rows.push(0) - 1 : rows.indexOf(Math.min(...rows));
    rows[row] = fault.to ?? run.span;
    return { fault, row };
  });
}

function faultWords(fault) {
  const whom = fault.nodes.length ? `node ${fault.nodes.join(", ")}` : "nobody";
  const until = fault.to === null ? "never undone" : `until ${seconds(fault.to, 3)}`;
  const struck = fault.struck === null ? "" : `\nstruck ${fault.struck} times`;
  return `fault ${fault.number}: ${fault.action} ${fault.target} → ${whom}\nin effect from ${seconds(fault.from, 3)}, ${until}`
    + `\nasked for at ${seconds(fault.requested, 3)}${struck}`;
}

function faultTrack() {
  const rows = faultRows(), tall = 17;
  const height = () => Math.max(1, ...rows.map(({ row }) => row + 1)) * tall + 4;
  const paint = (pen, box) => {
    pen.textAlign = "left";
    inside(pen, box, () => rows.forEach(({ fault, row }) => {
      const from = box.x(fault.from), wide = Math.max(box.x(fault.to ?? run.span) - from, 3), top = row * tall + 3;
      pen.fillStyle = stripes(pen, color("fault"), 1, 4);
      pen.fillRect(from, top, wide, tall - 3);
      pen.strokeStyle = color("fault");
      pen.strokeRect(from + 0.5, top + 0.5, wide, tall - 4);
      const words = `${fault.action} ${fault.nodes.length ? `n${fault.nodes.join(" n")}` : "nobody"}`;
      const size = pen.measureText(words).width, x = Math.max(from, box.left) + 3;
      const room = rows.every(other => other.row !== row || other.fault === fault || box.x(other.fault.from) < from || box.x(other.fault.from) > x + size);
      if (!room && wide < size + 8) return;
      pen.fillStyle = color("panel");
      pen.fillRect(x, top + 1, size + 5, tall - 5);
      pen.fillStyle = color("ink");
      pen.fillText(words, x + 2, top + tall / 2 - 1);
    }));
    if (!rows.length) centred(pen, box, "no faults");
  };
  const point = (x, y, box) => {
    const hit = rows.findLast(({ fault, row }) => Math.floor((y - 3) / tall) === row
      && x >= box.x(fault.from) - 2 && x <= Math.max(box.x(fault.to ?? run.span), box.x(fault.from) + 3));
    return hit && { text: faultWords(hit.fault), press: () => look(hit.fault.from - 2e5, (hit.fault.to ?? run.span) + 2e5) };
  };
  return track({ name: "faults", height, paint, point });
}

function centred(pen, box, words) {
  pen.textAlign = "center";
  pen.fillStyle = color("dim");
  pen.fillText(words, (box.left + box.right) / 2, box.height / 2);
}

// ---- leaders and leases ----

const ROLE_WORDS = { leads: "leads", holds: "holds the lease", grants: "has granted the lease" };

function roleWords(role) {
  const own = role.own === null ? "" : `\nthe lease ends at ${seconds(role.own, 4)} of its own clock, renewed ${role.renewed} times`;
  const until = role.to > run.span * 4 ? "for ever: its clock never gets there" : `to ${seconds(role.to, 4)} on the common clock (${role.end})`;
  return `node ${role.node} ${ROLE_WORDS[role.role]}, partition ${role.partition}\nballot ${role.ballot}, boot ${role.boot}\n${seconds(role.from, 4)} ${until}${own}`;
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
      for (const role of its.filter(role => role.role === "leads")) leaderName(pen, box, role, rows.indexOf(role.node) * ROW);
      pen.fillStyle = color("ink");
      for (const [node, boot, time] of run.roles.starts) {
        if (boot > 1 && rows.includes(node)) pen.fillText("▲", box.x(time) - 4, rows.indexOf(node) * ROW + ROW / 2);
      }
    });
  };
  const point = (x, y, box) => {
    const there = role => x >= box.x(role.from) - 1 && x <= box.x(role.to) + 1 && rows[Math.floor(y / ROW)] === role.node;
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
  const from = box.x(role.from), to = Math.min(box.x(role.to), box.right + 9);
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
  const x = Math.max(box.x(role.from), box.left) + 5, words = `leads · ${role.ballot}`;
  if (box.x(Math.min(role.to, run.span)) - x < pen.measureText(words).width + 6) return;
  pen.fillStyle = color("page");
  pen.fillText(words, x, top + 8);
}

// Nodes that are dead or stand still.
function gone(pen, box, rows) {
  for (const fault of run.faults) {
    const word = fault.action.startsWith("kill") || fault.action === "wipe" ? "dead" : fault.action === "pause" ? "paused" : null;
    if (!word) continue;
    for (const node of fault.nodes) {
      const row = rows.indexOf(node);
      if (row < 0) continue;
      const from = box.x(fault.from), wide = Math.max(box.x(fault.to ?? run.span) - from, 2);
      pen.fillStyle = stripes(pen, color("dim"), word === "dead" ? 1 : -1, 4);
      pen.fillRect(from, row * ROW + 1, wide, ROW - 2);
      if (wide < 46) continue;
      const x = Math.max(from, box.left) + 4;
      pen.fillStyle = color("panel");
      pen.fillRect(x, row * ROW + 3, pen.measureText(word).width + 6, ROW - 6);
      pen.fillStyle = color("ink");
      pen.fillText(word, x + 3, row * ROW + ROW / 2);
    }
  }
}

function roleTracks() {
  const made = Object.keys(run.roles.replicas).map(partition => roleTrack(Number(partition)));
  if (!made.length) return [element("p", { class: "note" }, "The run has left no traces: who led and who held leases is not recorded.")];
  const words = legend(["■", "n1", "leads (colour and row: the node)"], ["▬", "ink", "holds the lease"], ["▁", "n2", "has granted it (colour: to whom)"],
    ["▲", "ink", "started again"], ["▨", "dim", "dead or paused"]);
  made[0].firstChild.append(words);
  return made;
}

// ---- throughput ----

function throughputTrack() {
  const { width } = run.throughput, layers = ["ok", "fail", "info"];
  const counts = Object.fromEntries(layers.map(name => [name, plain(run.throughput[name])]));
  const rate = at => layers.reduce((sum, name) => sum + counts[name][at], 0) * 1e6 / width;
  // a short burst shall not flatten all the rest: it goes beyond the scale, and says how far
  const usual = (first, last) => {
    const rates = [];
    for (let at = first; at <= last; at++) if (rate(at)) rates.push(rate(at));
    rates.sort((one, other) => one - other);
    return Math.max(1, Math.min(rates.at(-1) ?? 1, 3 * (rates[Math.floor(rates.length * 0.9)] ?? 1)));
  };
  const paint = (pen, box) => {
    const [first, last] = inView(width, counts.ok.length);
    const most = usual(first, last), y = perSecond => box.height - 2 - Math.min(perSecond / most, 1.06) * (box.height - 16);
    scale(pen, box, most, y, perSecond);
    inside(pen, box, () => {
      for (let at = first; at <= last; at++) {
        let below = 0;
        for (const name of layers) {
          const high = counts[name][at] * 1e6 / width;
          if (!high) continue;
          pen.fillStyle = name === "ok" ? color("ok") : stripes(pen, color(name), name === "fail" ? 1 : -1, 3);
          const left = Math.floor(box.x(at * width)), right = Math.floor(box.x((at + 1) * width));
          pen.fillRect(left, y(below + high), Math.max(right - left, 1), Math.max(y(below) - y(below + high), 1));
          below += high;
        }
        if (below > most * 1.06) beyond(pen, box.x((at + 0.5) * width), at > first && rate(at - 1) > most * 1.06 ? "" : perSecond(rate(at)));
      }
    });
  };
  const point = (x, y, box) => {
    const at = Math.floor((view.from + (x - box.left) / box.scale) / width);
    if (!(at >= 0 && at < counts.ok.length)) return null;
    return { text: `${seconds(at * width, 3)} to ${seconds((at + 1) * width, 3)}\n${layers.map(name => `${counts[name][at]} ${name}`).join(", ")}\n${Math.round(rate(at))} a second` };
  };
  const words = legend(["■", "ok", "ok"], ["▨", "fail", "fail: did not happen"], ["▧", "info", "info: unknown"]);
  return track({ name: "throughput", height: () => 92, paint, point, words });
}

const perSecond = rate => rate >= 1000 ? `${+(rate / 1000).toPrecision(3)}k/s` : `${Math.round(rate)}/s`;

function beyond(pen, x, words) {
  pen.fillStyle = color("ink");
  pen.textAlign = "left";
  pen.fillText("↑", x - 3, 5);
  pen.textAlign = "right";
  pen.fillText(words, x - 6, 7);
}

const inView = (width, count) => [Math.max(0, Math.floor(view.from / width)), Math.min(count - 1, Math.floor(view.to / width))];

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
  const { width } = run.throughput, reads = plain(run.throughput.reads), fast = plain(run.throughput.fast);
  const paint = (pen, box) => {
    const y = share => box.height - 4 - share * (box.height - 10);
    scale(pen, box, 1, y, tick => `${Math.round(tick * 100)} %`);
    const [first, last] = inView(width, reads.length);
    inside(pen, box, () => {
      for (let at = first; at <= last; at++) {
        if (!reads[at]) continue;
        const left = box.x(at * width), wide = Math.max(box.x((at + 1) * width) - left, 1.5), top = y(fast[at] / reads[at]);
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
  const words = legend(["", "dim", "of the reads that were answered, those that a leader answered alone under its lease"]);
  return track({ name: "share of fast reads", height: () => 50, paint, point, words });
}

// ---- latencies ----

const WAY_COLORS = { "fast reads": "fast", "local reads": "local", "log reads": "log", writes: "write" };
const RANKS = [["p50", []], ["p90", [2, 2]], ["p99", [6, 3]]];

function latencyTrack(way) {
  const { width } = way, ranks = RANKS.map(([name, dash]) => ({ name, dash, values: plain(way[name]) })), most = plain(way.max);
  const its = operations.filter(operation => operation.outcome === "ok" && wayOf(operation) === way.name);
  const low = Math.log10(20), high = Math.log10(Math.max(way.whole[3] * 1.3, 2000));
  const yOf = box => micros => box.height - 4 - (Math.log10(Math.max(micros, 20)) - low) / (high - low) * (box.height - 10);
  const paint = (pen, box) => {
    const y = yOf(box);
    pen.textAlign = "right";
    for (let decade = 100; Math.log10(decade) < high; decade *= 10) {
      pen.fillStyle = color("line");
      pen.fillRect(box.left, y(decade), box.right - box.left, 1);
      pen.fillStyle = color("dim");
      pen.fillText(decade < 1000 ? `${decade} µs` : decade < 1e6 ? `${decade / 1000} ms` : `${decade / 1e6} s`, box.left - 6, y(decade));
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
    const near = nearest(its, x, y, operation => [box.x(operation.ended), yOf(box)(operation.ended - operation.invoked)], 9);
    const at = Math.floor((view.from + (x - box.left) / box.scale) / width);
    const figures = most[at] ? `${way.name} ended in ${seconds(at * width, 2)} + ${duration(width)}:\n${ranks.map(rank => `${rank.name} ${duration(rank.values[at])}`).join(", ")}, max ${duration(most[at])}` : "";
    if (near) return { text: `${brief(near)}\n\n${figures}`, press: () => select(near) };
    return figures ? { text: figures } : null;
  };
  const [p50, p90, p99, max] = way.whole.map(duration);
  const words = legend(["●", WAY_COLORS[way.name], `${way.count} answered: p50 ${p50}, p90 ${p90}, p99 ${p99}, max ${max}`], ["—", "ink", "p50"], ["┄", "ink", "p90"], ["╌", "ink", "p99"]);
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
    if (!values[at]) { on = false; continue; }
    const x = box.x((at + 0.5) * width);
    if (on) pen.lineTo(x, y(values[at]));
    else { pen.moveTo(x - 2, y(values[at])); pen.lineTo(x + 2, y(values[at])); }
    on = true;
  }
  pen.stroke();
  pen.setLineDash([]);
}

function nearest(candidates, x, y, place, most) {
  let best = null, least = most * most;
  for (const candidate of candidates) {
    const [cx, cy] = place(candidate), distance = (cx - x) ** 2 + (cy - y) ** 2;
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

// ---- clocks ----

function clockTrack() {
  const pieces = run.roles.clocks;
  const ends = pieces.map((piece, at) => {
    const next = pieces.slice(at + 1).find(other => other.node === piece.node);
    return { piece, to: next ? next.from : run.span };
  });
  const shows = (piece, time) => piece.offset + (time - piece.from) * piece.rate_ppm / 1e6;
  const all = ends.flatMap(({ piece, to }) => [shows(piece, piece.from), shows(piece, to)]);
  const low = Math.min(0, ...all), high = Math.max(0, ...all), room = Math.max((high - low) * 0.08, 100);
  const yOf = box => offset => box.height - 6 - (offset - low + room) / (high - low + 2 * room) * (box.height - 12);
  const paint = (pen, box) => {
    const y = yOf(box);
    pen.textAlign = "right";
    for (const tick of ticks(low / 1000, high / 1000 + 0.001, 4).all) {
      pen.fillStyle = color("line");
      pen.fillRect(box.left, y(tick * 1000), box.right - box.left, 1);
      pen.fillStyle = color("dim");
      pen.fillText(`${+tick.toPrecision(3)} ms`, box.left - 6, y(tick * 1000));
    }
    pen.textAlign = "left";
    inside(pen, box, () => ends.forEach(({ piece, to }) => {
      pen.strokeStyle = pen.fillStyle = nodeColor(piece.node);
      pen.lineWidth = 1.8;
      pen.beginPath();
      pen.moveTo(box.x(piece.from), y(shows(piece, piece.from)));
      pen.lineTo(box.x(to), y(shows(piece, to)));
      pen.stroke();
      const middle = Math.max(view.from, piece.from) + (Math.min(view.to, to) - Math.max(view.from, piece.from)) * (0.15 + 0.12 * piece.node % 0.8);
      if (box.x(to) - box.x(piece.from) > 60) pen.fillText(`n${piece.node}`, box.x(middle), y(shows(piece, middle)) - 8);
    }));
  };
  const point = (x, _, box) => {
    const time = view.from + (x - box.left) / box.scale;
    const now = ends.filter(({ piece, to }) => time >= piece.from && time <= to);
    return now.length ? { text: now.map(({ piece }) => `node ${piece.node}: ${(shows(piece, time) / 1000).toFixed(3)} ms, ${piece.rate_ppm} ppm`).join("\n") } : null;
  };
  const words = legend(["", "dim", "what each node's clock shows, less what the common clock shows"]);
  return pieces.length ? track({ name: "clocks", height: () => 90, paint, point, words }) : null;
}
