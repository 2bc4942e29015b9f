// Runs before anything is painted, so that the page never flashes in the wrong theme.
(() => {
  try {
    const theme = localStorage.getItem("gaia.theme");
    if (theme === "dark" || theme === "light") {
      document.documentElement.dataset.theme = theme;
    }
  } catch {
    // A browser that keeps nothing shows the page in the system's theme.
  }
})();
