"use strict";
const root = document.documentElement;
root.classList.add("scripted");

/* Light, dark, or as the system says; kept for the next visit where the browser allows it. */
function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("medrobust-theme");
    localStorage.setItem("medrobust-theme", value);
  } catch { /* a file on disk may have no storage */ }
  return null;
}
{
  const themes = ["system", "light", "dark"];
  const button = document.createElement("button");
  button.type = "button";
  button.className = "theme";
  const set = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Colours: ${theme}`;
  };
  let theme = themes.includes(remembered()) ? remembered() : "system";
  set(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    set(theme);
    remembered(theme);
  });
  document.querySelector(".masthead").append(button);
}
