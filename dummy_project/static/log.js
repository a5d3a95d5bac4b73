// Renew the callback log every two seconds, but touch the page only where something is new: a
// screen reader then announces what arrived, and nothing else.
const entries = document.getElementById("entries");
const source = new URL(entries.dataset.source, location.href);

async function renew() {
  try {
    const answer = document.hidden ? null : await fetch(source);
    if (answer?.ok) {
      const fresh = document.createElement("div");
      fresh.innerHTML = await answer.text();
      if (fresh.innerHTML !== entries.innerHTML) entries.replaceChildren(...fresh.childNodes);
    }
  } catch {
    // The demo was stopped. What is shown stays, and a later round finds it running again.
  }
  setTimeout(renew, 2000);
}

renew();
