"use strict";
// Fetches this page again and replaces its main part. The scroll position, the focus and the typed text stay. Nothing
// changes while the tab is hidden, or while text is selected.
(() => {
  const EVERY = 5000;
  const TIMEOUT = 10000;
  // Without user name and password: browsers do not fetch an address that contains them.
  const here = location.origin + location.pathname + location.search;
  const stale = document.getElementById("stale");
  let timer = 0;
  let busy = false;

  const isSelecting = (main) => {
    const selection = getSelection();
    return selection.type === "Range" && main.contains(selection.anchorNode);
  };

  const take = (page) => {
    const [old, fresh] = [document, page].map((it) => it.querySelector("main"));
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    old.replaceChildren(...fresh.childNodes);
    document.title = page.title;
    const same = focused && [...old.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused);
    if (same) same.focus({ preventScroll: true });
  };

  const renew = async () => {
    if (busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      if (!isSelecting(document.querySelector("main"))) {
        const answer = await fetch(here, { signal: AbortSignal.timeout(TIMEOUT) });
        if (!answer.ok) throw new Error(answer.statusText);
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
    busy = false;
    timer = setTimeout(renew, EVERY);
  };

  document.addEventListener("visibilitychange", renew);
  timer = setTimeout(renew, EVERY);
})();
