// Finds the number whose SHA-256(salt + number) the page asks for, a little at a time, and holds the form back so long.
// SHA-256 is written out: crypto.subtle is missing on plain http and too slow for many short messages.
(() => {
  "use strict";
  const box = document.querySelector("[data-salt]");
  if (!box) return;
  const { salt, target, most, waiting, later } = box.dataset, form = box.closest("form");
  const first = parseInt(target.slice(0, 8), 16) | 0, second = parseInt(target.slice(8, 16), 16) | 0;
  const constants = [], start = [], words = new Int32Array(64);
  for (let n = 2; constants.length < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
    if (!prime) continue;
    if (start.length < 8) start.push((Math.sqrt(n) % 1 * 2 ** 32) | 0);
    constants.push((Math.cbrt(n) % 1 * 2 ** 32) | 0);
  }
  // FIPS 180-4 section 6.2.2; salt and number are at most 55 bytes, which is one block
  const fits = text => {
    words.fill(0, 0, 16);
    for (let i = 0; i < text.length; i++) words[i >> 2] |= text.charCodeAt(i) << (24 - 8 * (i & 3));
    words[text.length >> 2] |= 128 << (24 - 8 * (text.length & 3));
    words[15] = 8 * text.length;
    for (let i = 16; i < 64; i++) {
      const x = words[i - 15], y = words[i - 2];
      words[i] = words[i - 16] + words[i - 7] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
        + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10);
    }
    let [a, b, c, d, e, f, g, h] = start;
    for (let i = 0; i < 64; i++) {
      const s = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + constants[i] + words[i];
      const t = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c);
      h = g; g = f; f = e; e = d + s | 0; d = c; c = b; b = a; a = s + t | 0;
    }
    return (a + start[0] | 0) === first && (b + start[1] | 0) === second;
  };
  const names = [...form.querySelectorAll(".acts .btn")].map(button => [button, button.textContent]);
  let number = 0, found = false, pressed = null;
  const search = () => {
    for (const end = performance.now() + 25; performance.now() < end;)
      for (let i = 0; i < 200 && number < most; i++, number++)
        if (fits(salt + number)) {
          box.querySelector("input").value = number;
          found = true;
          if (pressed) { names.forEach(([button, name]) => { button.textContent = name; }); pressed.click(); }
          return;
        }
    if (number < most) setTimeout(search, 0);
    else found = true; // never for a page of ours: the server then says what to do
  };
  form.addEventListener("submit", event => {
    if (found) return;
    event.preventDefault();
    if (pressed) return;
    pressed = event.submitter || form.querySelector("button");
    names.forEach(([button]) => { button.textContent = waiting; });
    box.querySelector("[role=status]").textContent = later;
  });
  search();
})();
