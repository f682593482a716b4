// Elements, SVG, colours and patterns.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

// An element that is pressed by mouse or keyboard.
function pressable(made, press, label) {
  made.setAttribute("tabindex", "0");
  made.setAttribute("role", "button");
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", press);
  made.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    press(event);
  });
  return made;
}

const style = new Map();
function color(name) {
  if (!style.has(name))
    style.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return style.get(name);
}

const nodeColor = node => color(`n${((node - 1) % 8) + 1}`);

// Stripes, so that what they fill is told apart without its colour.
const patterns = new Map();
function stripes(context, tint, leaning = 1, gap = 5) {
  const name = `${tint} ${leaning} ${gap}`;
  if (!patterns.has(name)) {
    const tile = element("canvas", { width: gap * 2, height: gap * 2 });
    const pen = tile.getContext("2d");
    pen.strokeStyle = tint;
    pen.lineWidth = 1.6;
    pen.beginPath();
    for (const shift of [-2, 0, 2]) {
      pen.moveTo(leaning > 0 ? shift * gap : (shift + 2) * gap, 0);
      pen.lineTo(leaning > 0 ? (shift + 2) * gap : shift * gap, gap * 2);
    }
    pen.stroke();
    patterns.set(name, context.createPattern(tile, "repeat"));
  }
  return patterns.get(name);
}

// The glyph of a kind of operation: told apart by shape.
function glyph(context, kind, x, y, radius) {
  context.beginPath();
  if (kind === "get") context.arc(x, y, radius, 0, 7);
  else if (kind === "put") {
    context.moveTo(x, y - radius);
    context.lineTo(x + radius, y + radius);
    context.lineTo(x - radius, y + radius);
  } else if (kind === "cas") {
    context.moveTo(x, y - radius);
    context.lineTo(x + radius, y);
    context.lineTo(x, y + radius);
    context.lineTo(x - radius, y);
  } else context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
  context.closePath();
}

function legend(...entries) {
  return element(
    "span",
    { class: "legend" },
    ...entries.map(([sign, tint, words]) =>
      element("span", {}, element("i", { style: `color:var(--${tint})` }, sign), ` ${words}`),
    ),
  );
}

// Round steps for about so many ticks.
function ticks(from, to, about) {
  const rough = Math.max((to - from) / about, 1e-9);
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(times => times * decade).find(size => size >= rough);
  const all = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) all.push(tick);
  return { step, all };
}

const tip = document.getElementById("tip");
function showTip(event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
}
