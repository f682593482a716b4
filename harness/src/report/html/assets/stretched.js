// Pictures of a few events: time is stretched where much happens and shortened where nothing does. Order is kept, distances
// are not, and the picture says so.

// Maps times to x: `times` in any order, `least` pixels between two of them, and more the longer the time between.
function stretched(times, left, least, more = 9) {
  const sorted = [...new Set(times)].sort((one, other) => one - other),
    places = [];
  let x = left;
  sorted.forEach((time, at) => {
    if (at > 0) x += least + more * Math.log10(1 + time - sorted[at - 1]);
    places.push(x);
  });
  return {
    sorted,
    places,
    end: x,
    // between two known times in proportion
    x(time) {
      let at = sorted.findIndex(known => known >= time);
      if (at < 0) return x + 10;
      if (at === 0) return time === sorted[0] ? places[0] : left - 10;
      const part = (time - sorted[at - 1]) / (sorted[at] - sorted[at - 1]);
      return places[at - 1] + part * (places[at] - places[at - 1]);
    },
  };
}

// Faults behind such a picture.
function faultBands(picture, scale, top, tall) {
  const first = scale.sorted[0],
    last = scale.sorted.at(-1);
  const during = run.faults.filter(
    fault => fault.action !== "heal" && fault.from <= last && (fault.to ?? run.span) >= first,
  );
  during.slice(0, 8).forEach((fault, at) => {
    const from = Math.max(scale.x(fault.from), scale.places[0] - 10),
      to = Math.min(scale.x(fault.to ?? run.span), scale.end + 10);
    picture.append(
      svg(
        "rect",
        { x: from, y: top, width: Math.max(to - from, 2), height: tall, fill: color("fault"), "fill-opacity": 0.1 },
        svg("title", {}, faultWords(fault)),
      ),
    );
    picture.append(
      svg(
        "text",
        { x: from + 4, y: top + 12 + at * 14, class: "dim" },
        `${fault.action} node ${fault.nodes.join(", ") || "–"}`,
      ),
    );
  });
  return during.length;
}
