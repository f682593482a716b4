// For the test in a browser without a head, behind `#selftest`: clicks on an operation as a user would, goes on to the next
// one and lets go by keyboard, and says in the page what came of it.

function selftest() {
  const target = operations[Math.floor(operations.length / 2)],
    canvas = document.querySelector("#lanes canvas");
  look(target.invoked - 50, endOf(target) + 50);
  const box = boxOf(canvas, canvas.clientHeight),
    place = canvas.getBoundingClientRect();
  const x = box.x((target.invoked + Math.min(endOf(target), view.to)) / 2),
    y = (target.lane + 0.5) * laneHeight + 3;
  for (const kind of ["pointerdown", "pointerup"]) {
    const where = { clientX: place.left + x, clientY: place.top + y, bubbles: true, pointerId: 1 };
    canvas.dispatchEvent(new PointerEvent(kind, where));
  }
  const came = [
    `clicked ${target.line}`,
    `selected ${selected?.line}`,
    document.querySelector("#record h3")?.textContent,
  ];
  const press = key => canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const lane = lanes[target.lane],
    next = lane[lane.indexOf(target) + 1];
  press("ArrowRight");
  came.push(`next ${next?.line}`, `selected ${selected?.line}`);
  press("Escape");
  came.push(selected ? "still selected" : "let go");
  press("v");
  select(target);
  document.body.setAttribute("data-selftest", came.join("; "));
}
