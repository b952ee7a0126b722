// One button opens the code of all cells, and hides it again.
document.querySelector("#fold").onclick = (event) => {
  const button = event.currentTarget, open = !button.dataset.open;
  for (const cell of document.querySelectorAll("details.code")) cell.open = open;
  button.dataset.open = open ? "1" : "";
  button.textContent = open ? "Hide all code" : "Show all code";
};
