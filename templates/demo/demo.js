// Keeps the mailbox fresh; the page works without it by reloading.
const box = document.getElementById("mailbox");
const count = (node) => node.querySelectorAll(".mail, .received li").length;
setInterval(async () => {
  try {
    const fresh = document.createElement("div");
    fresh.innerHTML = await (await fetch(box.dataset.url)).text();
    if (count(fresh) !== count(box)) box.replaceChildren(...fresh.childNodes);
  } catch { /* the robot is gone; the page stays as it is */ }
}, 1000);
