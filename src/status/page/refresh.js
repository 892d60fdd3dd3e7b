"use strict";
// Fetches this page again at intervals and replaces its main part. The scroll position, the focus and the typed text
// are kept. The page does not change while the tab is hidden, or while text is selected.
(() => {
  const INTERVAL = 5000;
  const TIMEOUT = 10000;
  // The address without user name and password, because browsers do not fetch an address that contains them.
  const address = location.origin + location.pathname + location.search;
  const stale = document.getElementById("stale");
  let timer = 0;
  let busy = false;

  const isSelecting = (main) => {
    const selection = getSelection();
    return selection.type === "Range" && main.contains(selection.anchorNode);
  };

  const replaceMain = (page) => {
    const [old, fresh] = [document, page].map((root) => root.querySelector("main"));
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    old.replaceChildren(...fresh.childNodes);
    document.title = page.title;
    const same = focused && [...old.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused);
    if (same) same.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      if (!isSelecting(document.querySelector("main"))) {
        const answer = await fetch(address, { signal: AbortSignal.timeout(TIMEOUT) });
        if (!answer.ok) throw new Error(answer.statusText);
        replaceMain(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
    busy = false;
    timer = setTimeout(refresh, INTERVAL);
  };

  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, INTERVAL);
})();
