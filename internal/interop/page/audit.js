// Looks at what a reader sees, and returns a list of what is wrong with it.
(() => {
  const problems = [];
  const say = (text) => { if (problems.length < 20) problems.push(text); };
  const quote = (el) => JSON.stringify(el.textContent.trim().slice(0, 40));
  const visible = (el) => {
    for (let e = el; e instanceof Element; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.display === "none" || style.visibility === "hidden" || +style.opacity === 0 || e.hidden) return false;
      if (e.tagName === "DETAILS" && !e.open && !el.closest("summary")) return false;
    }
    const box = el.getBoundingClientRect();
    return box.width > 0 && box.height > 0;
  };

  // Colors, composited over what is behind them.
  const parse = (color) => {
    const found = /rgba?\(([^)]+)\)/.exec(color);
    if (!found) return [0, 0, 0, 0];
    const parts = found[1].split(/[,\s/]+/).filter(Boolean).map(Number);
    return [parts[0], parts[1], parts[2], parts[3] === undefined ? 1 : parts[3]];
  };
  const over = (top, below) => {
    const a = top[3];
    return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(1);
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const canvas = () => parse(getComputedStyle(document.body).backgroundColor);
  // The shapes below a text, by geometry and drawing order.
  const backgroundOfSVG = (text) => {
    const box = text.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    let color = canvas();
    for (const shape of text.ownerSVGElement.querySelectorAll("rect,circle,path,polygon,ellipse")) {
      if (shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) continue;
      if (!visible(shape)) continue;
      const style = getComputedStyle(shape);
      if (style.fill === "none") continue;
      const fill = parse(style.fill);
      fill[3] *= +style.fillOpacity * +style.opacity;
      const point = new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse());
      if (fill[3] > 0 && shape.isPointInFill(point)) color = over(fill, color);
    }
    return color;
  };
  const backgroundOfHTML = (el) => {
    const chain = [];
    for (let e = el; e instanceof Element; e = e.parentElement) chain.unshift(e);
    let color = [255, 255, 255, 1];
    for (const e of chain) {
      if (e.namespaceURI === "http://www.w3.org/2000/svg") continue;
      const fill = parse(getComputedStyle(e).backgroundColor);
      if (fill[3] > 0) color = over(fill, color);
    }
    return color;
  };

  const drawings = [...document.querySelectorAll("main svg")].filter(visible);
  for (const svg of drawings) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].filter((t) => visible(t) && t.textContent.trim());
    for (const text of texts) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        say(`clipped by the drawing: ${quote(text)}`);
      const card = text.closest(".node")?.querySelector(".card")?.getBoundingClientRect();
      if (card && (box.left < card.left - 1 || box.right > card.right + 1 || box.top < card.top - 1 || box.bottom > card.bottom + 1))
        say(`leaves its card: ${quote(text)}`);
      const style = getComputedStyle(text);
      const color = over(parse(style.fill), backgroundOfSVG(text));
      const contrast = ratio(color, backgroundOfSVG(text));
      if (contrast < 4.5) say(`contrast ${contrast.toFixed(2)}: ${quote(text)}`);
    }
    // No text on another.
    for (let i = 0; i < texts.length; i++) {
      const a = texts[i].getBoundingClientRect();
      for (let j = i + 1; j < texts.length; j++) {
        const b = texts[j].getBoundingClientRect();
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1.5 && high > Math.min(a.height, b.height) * 0.35) say(`one over the other: ${quote(texts[i])} and ${quote(texts[j])}`);
      }
    }
    // No line across a text, unless a box that is drawn after the line holds it.
    for (const line of svg.querySelectorAll(".edge path, path.base")) {
      if (!visible(line)) continue;
      const length = line.getTotalLength(), matrix = line.getScreenCTM();
      for (const text of texts) {
        const box = text.getBoundingClientRect();
        for (let at = 0; at <= length; at += 3) {
          const p = line.getPointAtLength(at).matrixTransform(matrix);
          if (p.x <= box.left + 1 || p.x >= box.right - 1 || p.y <= box.top + 2 || p.y >= box.bottom - 2) continue;
          const covered = [...svg.querySelectorAll("rect")].some((rect) => {
            if (!(line.compareDocumentPosition(rect) & Node.DOCUMENT_POSITION_FOLLOWING)) return false;
            if (!(rect.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) return false;
            const r = rect.getBoundingClientRect(), style = getComputedStyle(rect);
            return style.fill !== "none" && r.left <= box.left + 1 && r.right >= box.right - 1 && r.top <= box.top + 2 && r.bottom >= box.bottom - 2;
          });
          if (!covered) { say(`a line crosses ${quote(text)}`); break; }
        }
      }
    }
  }
  // HTML: contrast, and nothing wider than its box or the window.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const el = node.parentElement;
    if (!node.textContent.trim() || el.closest("svg,script,style") || !visible(el)) continue;
    const below = backgroundOfHTML(el);
    const contrast = ratio(over(parse(getComputedStyle(el).color), below), below);
    if (contrast < 4.5) say(`contrast ${contrast.toFixed(2)}: ${JSON.stringify(node.textContent.trim().slice(0, 40))}`);
    if (el.scrollWidth > el.clientWidth + 1 && el.clientWidth > 0 && getComputedStyle(el).overflowX === "hidden")
      say(`clipped: ${JSON.stringify(node.textContent.trim().slice(0, 40))}`);
  }
  for (const value of document.querySelectorAll(".fig b")) {
    const box = value.getBoundingClientRect(), card = value.parentElement.getBoundingClientRect();
    if (box.right > card.right + 1 || box.bottom > card.bottom + 1) say(`leaves its card: ${quote(value)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth + 1) say(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${innerWidth}`);
  return problems;
})()
