"use strict";
// Fetches this page again and puts its main part in place of the old one. Where you are, what has the focus and what
// you typed stays. Nothing moves while the tab is hidden, or while text is selected.
(() => {
  const EVERY = 5000;
  const PATIENCE = 10000;
  // Without a login that was written into the address: such a one is not fetched.
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
        const answer = await fetch(here, { signal: AbortSignal.timeout(PATIENCE) });
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
