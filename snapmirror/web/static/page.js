// Makes the pages more pleasant. Everything works without it.
"use strict";

for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("code").textContent;
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers give the clipboard only to pages that came over HTTPS.
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "skip";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = before; }, 1500);
    button.focus();
  });
}

for (const form of document.querySelectorAll("form[data-submit]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

// Beside UTC, the time where the reader is.
for (const time of document.querySelectorAll("time[datetime]")) {
  const instant = new Date(time.dateTime);
  if (!Number.isNaN(instant.getTime())) {
    const local = instant.toLocaleString(document.documentElement.lang, { timeZoneName: "short" });
    time.title = local;
    if (time.parentElement.tagName === "DD") {
      const beside = document.createElement("span");
      beside.className = "hint";
      beside.textContent = ` (${local})`;
      time.after(beside);
    }
  }
}
