"use strict";
// The columns of tables with class "sortable" sort their rows when their buttons are pressed.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortRows(table, headers, column));
  });
}

function sortRows(table, headers, column) {
  const header = headers[column];
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
  rows.sort((one, two) => compareTexts(one.text, two.text, down ? -1 : 1));
  body.append(...rows.map(({ row }) => row));
}

function compareTexts(one, two, direction) {
  const [a, b] = [numberOf(one), numberOf(two)];
  if (one === "–" || two === "–") return (one === "–") - (two === "–"); // no score comes last either way round
  if (!Number.isNaN(a) && !Number.isNaN(b)) return direction * (a === b ? 0 : a - b);
  return direction * one.localeCompare(two, undefined, { numeric: true });
}

function numberOf(text) {
  return text === "∞" ? Infinity : Number(text);
}
