/* Tables are sorted by the buttons that head their columns: up, down, and back as they were. */
function value(row, column) {
  const cell = row.cells[column];
  const given = cell.dataset.value;
  if (given === undefined) return cell.textContent.trim();
  return given === "" ? null : Number(given);
}
function compared(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      table.classList.toggle("sorted", order !== null);
      if (order === null) return body.append(...original);
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = original.map((row) => [value(row, column), row]);
      const known = rows.filter(([of]) => of !== null && of !== "");
      const unknown = rows.filter(([of]) => of === null || of === "");
      known.sort(([a], [b]) => sign * compared(a, b));
      body.append(...[...known, ...unknown].map(([, row]) => row));
    });
  });
}
