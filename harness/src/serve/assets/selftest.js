// For the test in a browser without a head, behind `#selftest`: filters and orders the table as a user would, by mouse and by
// keyboard, and says in the page what came of it.
"use strict";

function selftest() {
  if (location.hash !== "#selftest") return;
  if (!runs.length) return void setTimeout(selftest, 50);
  const came = [];
  const places = () => [...at("rows").children].map(row => row.dataset.place.split("/").pop()).join(" ");
  const press = key => {
    const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
    (document.activeElement ?? document.body).dispatchEvent(event);
  };
  came.push(`first ${places()}`);
  at("columns").querySelector("[data-key=operations] button").click();
  came.push(`by operations ${places()}`, `sorted ${at("columns").querySelector("[aria-sort]").dataset.key}`);
  at("columns").querySelector("[data-key=operations] button").click();
  came.push(`the other way ${places()}`);
  at("states").querySelector("[data-state=violation]").click();
  came.push(`violations ${places()}`);
  press("Escape");
  press("/");
  came.push(`focus ${document.activeElement.id}`);
  at("text").value = "smoke valid";
  at("text").dispatchEvent(new Event("input"));
  came.push(`text ${places()}`, `address ${location.search}`);
  press("Escape");
  press("ArrowDown");
  press("ArrowDown");
  came.push(`row ${document.activeElement.closest("tr")?.dataset.place.split("/").pop()}`);
  document.body.setAttribute("data-selftest", came.join("; "));
}

selftest();
