// A quicker look than audit.js, for graphs of many nodes: it trusts that a card
// and a label's box are opaque and drawn over the lines.
(() => {
  const bad = []
  const shown = el => { const r = el.getBoundingClientRect(); return el.checkVisibility() && r.width > 0 && r.height > 0 }
  const name = el => (el.dataset.s || el.className.baseVal || el.tagName) + " " + JSON.stringify(el.textContent.slice(0, 40))
  const svg = [...document.querySelectorAll("svg.graph")].find(shown)
  const rect = el => { const r = el.getBoundingClientRect(); return { l: r.left, r: r.right, t: r.top, b: r.bottom } }
  const inside = (a, b, by) => a.l >= b.l + by && a.r <= b.r - by && a.t >= b.t + by && a.b <= b.b - by
  const meet = (a, b) => a.l < b.r && b.l < a.r && a.t < b.b && b.t < a.b
  const texts = [...svg.querySelectorAll("text")].filter(shown).map(el => {
    const r = rect(el), trim = (r.b - r.t) * 0.14 // a line's box is taller than its letters
    return { el, r: { l: r.l, r: r.r, t: r.t + trim, b: r.b - trim } }
  })
  for (const { el, r } of texts) {
    const box = el.closest("g")?.querySelector(":scope > .card, :scope > .box")
    if (!box) bad.push("a text outside any box: " + name(el))
    else if (!inside(r, rect(box), 1)) bad.push("clipped or out of its box: " + name(el))
  }
  for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++)
    if (meet(texts[i].r, texts[j].r)) bad.push("texts meet: " + name(texts[i].el) + " and " + name(texts[j].el))
  const cards = [...svg.querySelectorAll(".card")].map(rect), boxes = [...svg.querySelectorAll(".box")].map(rect)
  for (const a of boxes) for (const b of cards) if (meet(a, b)) bad.push("a label covers a card")
  for (const path of svg.querySelectorAll(".edge .base")) {
    const m = path.getScreenCTM(), long = path.getTotalLength()
    for (let at = 6; at < long - 6; at += 5) {
      const p = path.getPointAtLength(at).matrixTransform(m), dot = { l: p.x, r: p.x, t: p.y, b: p.y }
      if (cards.some(c => meet(dot, { l: c.l + 2, r: c.r - 2, t: c.t + 2, b: c.b - 2 }))) { bad.push("a line passes below a card"); break }
      const crossed = texts.find(t => meet(dot, t.r) && !t.el.closest(".label"))
      if (crossed) { bad.push("a line crosses " + name(crossed.el)); break }
    }
  }
  for (const el of svg.querySelectorAll(".tick, .threshold, .axis, .trackbar, .gateway, .leaf, .spark, .dot:not(.none)")) {
    const r = rect(el), crossed = texts.find(t => meet(r, t.r))
    if (shown(el) && crossed) bad.push(el.className.baseVal + " crosses " + name(crossed.el))
  }
  for (const box of boxes) if (!inside(box, rect(svg), 0)) bad.push("a label leaves the drawing")
  const root = document.documentElement
  if (root.scrollWidth > innerWidth) bad.push("the page is wider than the window: " + root.scrollWidth + " > " + innerWidth)
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width
  if (12 * scale < 9) bad.push("text is drawn at " + (12 * scale).toFixed(1) + " px")
  return [...new Set(bad)]
})()
