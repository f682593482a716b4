// What both pages need: elements, words for numbers, and asking the server again and again.
"use strict";

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
function drawn(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const STATES = {
  running: "going on",
  violation: "violation",
  unknown: "unknown",
  "no-verdict": "no verdict",
  valid: "valid",
};

// What a state means, for whoever points at it.
const MEANS = {
  running: "its process lives",
  violation: "something is wrong",
  unknown: "not decided, which is never valid",
  "no-verdict": "it is over and has left no verdict: interrupted, killed, or failed",
  valid: "nothing is wrong",
};

function badge(run) {
  return element("span", { class: `badge ${run.state}`, title: MEANS[run.state] }, STATES[run.state]);
}

// A path of the server for the names of a run and a file.
function path(kind, place, file) {
  const names = [...place.split("/"), ...(file ? file.split("/") : [])].filter((name, at) => name || !at);
  const all = place || !file ? names : names.slice(1);
  return `/${kind}/${all.map(encodeURIComponent).join("/")}`;
}

const grouped = new Intl.NumberFormat("en");
function count(number) {
  return number === null || number === undefined ? "–" : grouped.format(number);
}

function bytes(number) {
  if (number < 1000) return `${number} B`;
  let value = number / 1000,
    unit = 0;
  const units = ["kB", "MB", "GB", "TB"];
  while (value >= 999.95 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function ago(moment) {
  const seconds = Date.now() / 1000 - moment;
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return "just now";
}

// As the names of the folders have it.
function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").replace(".000Z", " UTC");
}

let answered = Date.now();

// Asks for JSON now and then again, in so many milliseconds, as long as somebody looks and `take` wants more.
function poll(address, every, take) {
  let waiting = null;
  const ask = async () => {
    clearTimeout(waiting);
    waiting = null;
    let more = true;
    try {
      const response = await fetch(address, { cache: "no-store" });
      if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).trim()}`);
      const answer = await response.json();
      answered = Date.now();
      silent(null);
      more = take(answer) !== false;
    } catch (error) {
      silent(error);
    }
    if (more && !document.hidden) waiting = setTimeout(ask, every);
    else if (!more) document.removeEventListener("visibilitychange", shown);
  };
  const shown = () => {
    if (!document.hidden && waiting === null) ask();
  };
  document.addEventListener("visibilitychange", shown);
  ask();
}

function silent(error) {
  const words = document.getElementById("silent");
  words.hidden = !error;
  if (!error) return;
  const last = new Date(answered).toLocaleTimeString();
  const why = error instanceof TypeError ? "the server does not answer" : error.message;
  words.textContent = `${why}; this is what was there at ${last}`;
}

function copies(button, source) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
}
