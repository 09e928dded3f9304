// Everything that the pointer does, by keys: what can be reached, and where the arrows lead.
const reached = (element) => element.matches("a[href], button, select, input, summary, [tabindex='0']");
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const table = document.querySelector("#trials table");
const rows = [...table.tBodies[0].rows];
const place = () => [rows.indexOf(document.activeElement.parentElement), document.activeElement.cellIndex].join();
const steps = [];
table.querySelector("tbody [tabindex]").focus();
for (const key of ["ArrowUp", "End", "ArrowRight", "ArrowDown", "Home", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowDown"]) {
  press(key);
  steps.push(place());
}
press(" ");
const dialog = document.querySelector("dialog");
const shut = dialog.querySelector("button");
const inside = dialog.contains(document.activeElement);
shut.click();
const heads = [...document.querySelectorAll(".sortable thead tr:last-child th")];
const clicked = [...heads.map((head) => head.querySelector("button") ?? head)];
document.body.dataset.keys = JSON.stringify({
  steps,
  inside,
  back: place(),
  stops: document.querySelectorAll("#trials tbody [tabindex='0']").length,
  heads: clicked.filter((element) => !element.matches("button") && !element.closest(".raw")).length,
  scrolls: [...document.querySelectorAll(".scroll")].filter((box) => !reached(box)).length,
  lists: [...document.querySelectorAll(".views")].filter((label) => !label.querySelector("select")).length,
});
