// Keys, and nothing that a page needs: each of them is a link or a box that is there without it.
(() => {
  const on = () => localStorage.getItem("history-keys") !== "off";
  const rows = () => [...document.querySelectorAll("[data-row]")];
  const go = (url) => url && (location.href = url);
  const link = (selector) => document.querySelector(selector)?.href;
  let at = -1, before = "";

  const step = (by) => {
    const all = rows();
    if (!all.length) return;
    all[at]?.removeAttribute("data-here");
    at = Math.max(0, Math.min(all.length - 1, at + by));
    all[at].setAttribute("data-here", "");
    all[at].querySelector("a")?.focus({ preventScroll: true });
    all[at].scrollIntoView({ block: "nearest" });
  };

  const mark = () => {
    const [a, b] = rows()[at]?.querySelectorAll("input[type=radio]") ?? [];
    if (!a) return;
    // The first one marked is where the comparison begins, the next where it ends.
    (mark.second ? b : a).checked = true;
    mark.second = !mark.second;
  };

  const keys = {
    "/": () => document.getElementById("search")?.focus(),
    j: () => step(1),
    k: () => step(-1),
    Enter: () => go(rows()[at]?.dataset.row),
    x: mark,
    c: () => document.querySelector("input[name=a]")?.form?.requestSubmit(),
    "[": () => go(link('[data-key="["]')),
    "]": () => go(link('[data-key="]"]')),
    r: () => go(link("[data-key=r]")),
    t: () => (document.getElementById("at") ?? document.getElementById("since"))?.focus(),
    "?": () => go(document.body.dataset.keys),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select");
    if (event.key === "Escape" && typing) return event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !on()) return;
    // Enter on a link or a button is theirs.
    if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
    const pair = before === "g" && event.key === "a";
    before = event.key;
    const act = pair ? () => go(document.body.dataset.home) : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // What was left empty is not part of the address.
  document.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) {
      if (value === "" && event.target.method !== "post") event.formData.delete(name);
    }
  });

  const box = document.getElementById("keys-on");
  if (box) {
    box.checked = on();
    box.addEventListener("change", () => localStorage.setItem("history-keys", box.checked ? "on" : "off"));
  }

  // Who uses a screen reader hears that the results are others now.
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.target?.id === "results" || document.activeElement === document.body) {
      at = -1;
    }
  });
})();
