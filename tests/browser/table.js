const said = document.body.dataset;
const table = document.querySelector("#trials table");
const tools = document.querySelector("#trials .tools");
const [filter] = tools.querySelectorAll("input[type=search]");
const numbers = () => [...table.tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => parseInt(row.cells[0].textContent)).join();
const column = (key) => [...table.tHead.rows[1].cells].findIndex((head) => head.dataset.key === key);
const shown = (key) => [...table.tBodies[0].rows].map((row) => row.cells[column(key)].innerText
  .replace(/\s+/g, " ").trim()).join("|");
const type = (text) => { filter.value = text; filter.dispatchEvent(new Event("input")); };
type("mAP>45 params<5");
said.filtered = numbers();
said.counted = tools.querySelector("[role=status]").textContent;
type("seed=7");
said.nothing = numbers();
type("");
said.all = numbers();
said.before = shown("mAP_delta") + " / " + shown("latency_ratio");
const select = tools.querySelector("select");
const choose = (index) => { select.selectedIndex = index; select.dispatchEvent(new Event("change")); };
choose(2);
said.after = shown("mAP_delta") + " / " + shown("latency_ratio");
said.marked = shown("number");
choose(0);
said.restored = shown("mAP_delta") + " / " + shown("latency_ratio");
const box = [...tools.querySelectorAll(".boxes label")].find((label) => label.textContent.trim() === "p95").firstChild;
box.click();
said.hidden = String(table.tHead.rows[1].cells[column("latency_p95_ms")].hidden);
said.spans = [...table.tHead.rows[0].cells].filter((cell) => !cell.hidden)
  .reduce((sum, cell) => sum + cell.colSpan, 0) - [...table.tHead.rows[1].cells].filter((cell) => !cell.hidden).length;
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
table.querySelector("tbody [tabindex]").focus();
press("ArrowDown");
for (let index = 0; index < column("mAP"); index += 1) press("ArrowRight");
press("Enter");
const dialog = document.querySelector("dialog");
said.asked = dialog.open + ": " + dialog.querySelector("h2").textContent;
said.told = [...dialog.querySelectorAll("dt")].map((term) => term.textContent).join();
dialog.close();
