const table = document.querySelector("#table table");
const headings = [...table.querySelectorAll("thead tr:last-child th")];
const names = new Intl.Collator(undefined, { numeric: true });

function compare(first, second) {
  const [a, b] = [Number(first), Number(second)];
  return Number.isNaN(a) || Number.isNaN(b) ? names.compare(first, second) : a - b;
}

function sortBy(heading) {
  const column = headings.indexOf(heading);
  const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const sign = order === "ascending" ? 1 : -1;
  const valueOf = (row) => row.cells[column].dataset.value;
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [a, b] = [valueOf(first), valueOf(second)];
    return (a === "") - (b === "") || sign * compare(a, b);
  });
  table.tBodies[0].append(...rows);
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
}

for (const heading of headings) {
  heading.querySelector("button").addEventListener("click", () => sortBy(heading));
}
