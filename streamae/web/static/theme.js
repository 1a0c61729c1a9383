// Before anything is painted: the theme that was chosen here before, or else the system's.
(function () {
  try {
    const chosen = localStorage.getItem("streamae-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch { /* storage may be switched off: the system's theme then */ }
})();
