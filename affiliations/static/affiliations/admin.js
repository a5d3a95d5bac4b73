// Put a button beside every text that is there to be copied. Without this it can still be selected.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const say = (text) => (window.gettext ? window.gettext(text) : text);
  const spoken = document.createElement("span");
  spoken.className = "visually-hidden";
  spoken.setAttribute("role", "status");
  document.body.append(spoken);
  for (const text of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "aff-copy-button";
    button.textContent = say("Copy");
    button.setAttribute("aria-label", text.dataset.copy);
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(text);
      let done = true;
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        // Without https there is no clipboard, only this.
        done = document.execCommand("copy");
      }
      spoken.textContent = button.textContent = say(done ? "Copied" : "Press Ctrl+C");
      setTimeout(() => {
        button.textContent = say("Copy");
        spoken.textContent = "";
      }, 2000);
    });
    text.after(" ", button);
  }
});
