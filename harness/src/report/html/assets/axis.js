// One time axis for all tracks: what is in view, moving it, and drawing every track anew when it moves.

const GUTTER = 58,
  EDGE = 10;
const view = { from: 0, to: run.span };
const tracks = [];
const CROSS = element("div", { id: "cross", hidden: true }); // through all tracks, without drawing them anew
let drag = null,
  drawing = false;

// A track: a canvas under its name. `paint(pen, box)` draws it, `point(x, y, box)` says what is there: {text, press}.
function track({ name, height, paint, point, words, keys }) {
  const canvas = element("canvas", { tabindex: keys ? 0 : null, role: keys ? "application" : "img", "aria-label": name });
  const made = { canvas, height, paint, point };
  const shell = element("div", { class: "track" }, element("div", { class: "name" }, name, words), canvas);
  tracks.push(made);
  canvas.addEventListener("pointermove", event => hover(event, made));
  canvas.addEventListener("pointerleave", () => {
    cross(null);
    showTip(null, null);
  });
  canvas.addEventListener("pointerdown", event => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    drag = { from: timeAt(event.offsetX, canvas), x: event.offsetX };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", event => release(event, made));
  canvas.addEventListener("dblclick", () => look(0, run.span));
  canvas.addEventListener("wheel", event => wheel(event, canvas), { passive: false });
  if (keys) canvas.addEventListener("keydown", keys);
  return shell;
}

function boxOf(canvas, height) {
  const width = canvas.clientWidth;
  const scale = (width - GUTTER - EDGE) / (view.to - view.from);
  return { width, height, left: GUTTER, right: width - EDGE, x: time => GUTTER + (time - view.from) * scale, scale };
}

const timeAt = (x, canvas) => view.from + ((x - GUTTER) / (canvas.clientWidth - GUTTER - EDGE)) * (view.to - view.from);

function look(from, to) {
  const least = 20,
    width = Math.min(Math.max(to - from, least), run.span);
  view.from = Math.max(0, Math.min((from + to) / 2 - width / 2, run.span - width));
  view.to = view.from + width;
  redraw();
}

function zoom(times, around = (view.from + view.to) / 2) {
  look(around - (around - view.from) / times, around + (view.to - around) / times);
}

const pan = part => look(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));

function wheel(event, canvas) {
  if (event.ctrlKey || event.metaKey) zoom(event.deltaY < 0 ? 1.25 : 0.8, timeAt(event.offsetX, canvas));
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
    pan((event.deltaX || event.deltaY) / 1500);
  else return; // the page scrolls
  event.preventDefault();
}

// A line through all tracks, or a part of the time that is being chosen.
function cross(from, to = from) {
  CROSS.hidden = from === null;
  if (from === null) return;
  CROSS.style.left = `${Math.max(Math.min(from, to), GUTTER)}px`;
  CROSS.style.width = `${Math.max(Math.abs(to - from), 1)}px`;
  CROSS.className = from === to ? "" : "wide";
}

function hover(event, { canvas, height, point }) {
  const cursor = timeAt(event.offsetX, canvas);
  cross(drag ? drag.x : event.offsetX, event.offsetX);
  const found = drag ? null : point?.(event.offsetX, event.offsetY, boxOf(canvas, height()));
  const inside = cursor >= view.from && cursor <= view.to;
  showTip(event, found ? found.text : inside ? seconds(cursor, 4) : null);
}

function release(event, { canvas, height, point }) {
  const begun = drag;
  drag = null;
  cross(null);
  if (begun && Math.abs(event.offsetX - begun.x) > 5) {
    const ends = [begun.from, timeAt(event.offsetX, canvas)].sort((one, other) => one - other);
    look(...ends);
    return;
  }
  point?.(event.offsetX, event.offsetY, boxOf(canvas, height()))?.press?.();
}

// Draws all tracks, once per frame and only those in sight.
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const made of tracks) drawTrack(made);
  });
}

function drawTrack({ canvas, height, paint }) {
  const tall = height(),
    ratio = window.devicePixelRatio || 1;
  if (canvas.style.height !== `${tall}px`) canvas.style.height = `${tall}px`;
  const place = canvas.getBoundingClientRect();
  if (place.bottom < -200 || place.top > innerHeight + 200) return;
  const width = Math.round(canvas.clientWidth * ratio);
  if (canvas.width !== width || canvas.height !== Math.round(tall * ratio)) {
    canvas.width = width;
    canvas.height = Math.round(tall * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, tall);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const box = boxOf(canvas, tall);
  pen.fillStyle = color("panel");
  pen.fillRect(box.left, 0, box.right - box.left, tall);
  background(pen, box);
  paint(pen, box);
}

// Faults and stalls behind everything, so that one sees what they did to what.
function background(pen, box) {
  inside(pen, box, () => {
    for (const fault of run.faults) {
      if (fault.action === "heal") continue;
      const from = box.x(fault.from),
        to = box.x(fault.to ?? run.span);
      if (to < box.left || from > box.right) continue;
      pen.globalAlpha = run.faults.length > 30 ? 0.05 : 0.11;
      pen.fillStyle = color("fault");
      pen.fillRect(from, 0, Math.max(to - from, 1), box.height);
      pen.globalAlpha = 1;
    }
    for (const [from, to] of run.stalls) {
      pen.fillStyle = stripes(pen, color("dim"), -1, 4);
      pen.fillRect(box.x(from), 0, Math.max(box.x(to) - box.x(from), 2), box.height);
    }
  });
}

function inside(pen, box, paint) {
  pen.save();
  pen.beginPath();
  pen.rect(box.left, 0, box.right - box.left, box.height);
  pen.clip();
  paint();
  pen.restore();
}

function line(pen, x, tall, tint) {
  pen.strokeStyle = tint;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(Math.round(x) + 0.5, 0);
  pen.lineTo(Math.round(x) + 0.5, tall);
  pen.stroke();
}

// The axis itself, with the phases of the run.
function axisTrack() {
  const paint = (pen, box) => {
    const { step, all } = ticks(view.from / 1e6, view.to / 1e6, Math.max(3, box.width / 110));
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    pen.textAlign = "center";
    for (const tick of all) {
      const x = box.x(tick * 1e6);
      pen.fillStyle = color("line");
      pen.fillRect(Math.round(x), 14, 1, 6);
      pen.fillStyle = color("ink");
      pen.fillText(`${tick.toFixed(digits)} s`, Math.min(x, box.right - 16), 7);
    }
    pen.textAlign = "left";
    inside(pen, box, () =>
      run.phases.forEach(([time, name], at) => {
        const until = run.phases[at + 1]?.[0] ?? run.span;
        const x = Math.max(box.x(time), box.left),
          wide = box.x(until) - x;
        line(pen, box.x(time), box.height, color("dim"));
        pen.fillStyle = color("dim");
        if (wide > pen.measureText(name).width + 6) pen.fillText(name, x + 4, 26);
      }),
    );
    pen.textAlign = "right";
    pen.fillStyle = color("dim");
    pen.fillText("phase", box.left - 6, 26);
  };
  const made = track({ name: "", height: () => 34, paint });
  made.firstChild.remove();
  return made;
}

function toolbar() {
  const button = (label, title, press) => element("button", { type: "button", title, onclick: press }, label);
  const buttons = element(
    "div",
    { class: "buttons" },
    button("+", "zoom in (+)", () => zoom(2)),
    button("−", "zoom out (−)", () => zoom(0.5)),
    button("◀", "earlier (Shift ←)", () => pan(-0.3)),
    button("▶", "later (Shift →)", () => pan(0.3)),
    button("whole run", "(0)", () => look(0, run.span)),
  );
  const moment = violationMoment();
  if (moment) buttons.append(button("violation", "(v)", () => look(...moment)));
  buttons.append(
    element(
      "span",
      { class: "note" },
      "drag to zoom, double-click for the whole run, Ctrl+wheel zooms, Shift+wheel moves",
    ),
  );
  return element("div", { id: "toolbar" }, buttons, axisTrack());
}

// Where to look first in a failing run.
function violationMoment() {
  const around = run.findings.spacetime;
  return around ? [around.from, around.to] : null;
}
