// What a reader would notice, measured: run in the page by the test, answers one object.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const box = e => e.getBoundingClientRect();
  // What a folded part holds has a size but is not seen.
  const shown = e => box(e).width > 0 && box(e).height > 0 && e.checkVisibility();
  // A level line has no height, an upright one no width.
  const drawn = e => (box(e).width > 0.5 || (box(e).height > 0.5 && e.matches('line'))) && e.checkVisibility();
  const name = e => `${e.tagName}.${e.getAttribute('class') ?? ''} "${e.textContent.trim().slice(0, 60)}"`;
  const wide = document.documentElement.clientWidth;

  const charts = all('svg.chart');
  const small = charts.filter(c => box(c).width < 150 || box(c).height < 20);
  const empty = charts.filter(c => !all('rect.bar, circle, polyline, line.whisker', c).some(drawn));
  // Words of a chart have to lie inside its card, and a name must not run into its figures.
  const outside = all('svg.chart text').filter(t => {
    const card = box(t.closest('figure'));
    // A letter may hang over its own start by a pixel.
    return box(t).left < card.left - 1.5 || box(t).right > card.right + 1.5;
  });
  const touching = charts.flatMap(c => all('text.name', c)).filter(t => {
    const value = t.nextElementSibling;
    return value?.matches('text.value') && box(t).right + 3 > box(value).left;
  });
  const ticks = charts.flatMap(c => all('text.tick', c)).filter((t, i, list) => {
    const next = list[i + 1];
    return next?.closest('svg.chart') === t.closest('svg.chart') && Math.abs(box(next).top - box(t).top) < 2 && box(t).right + 2 > box(next).left;
  });
  // Only what scrolls in a box of its own may be wider than the page.
  const beyond = all('body *').filter(e => shown(e) && box(e).right > wide + 0.5 && !e.closest('.scroll, pre'));

  // Contrast as WCAG counts it: text against all backgrounds under it.
  const color = text => {
    const n = text.match(/[\d.]+/g).map(Number);
    return { r: n[0], g: n[1], b: n[2], a: n.length > 3 ? n[3] : 1 };
  };
  const over = (top, ground) => ({
    r: top.r * top.a + ground.r * (1 - top.a), g: top.g * top.a + ground.g * (1 - top.a), b: top.b * top.a + ground.b * (1 - top.a), a: 1,
  });
  const ground = e => {
    const layers = [];
    for (let p = e; p; p = p.parentElement) layers.push(color(getComputedStyle(p).backgroundColor));
    return layers.reduceRight(((below, layer) => over(layer, below)), { r: 255, g: 255, b: 255, a: 1 });
  };
  const light = c => {
    const [r, g, b] = [c.r, c.g, c.b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = e => {
    const style = getComputedStyle(e), below = ground(e.closest('svg')?.parentElement ?? e);
    const ink = color(e.closest('svg') ? style.fill : style.color);
    let opacity = 1;
    for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
    const [a, b] = [light(over({ ...ink, a: ink.a * opacity }, below)), light(below)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const written = all('body *').filter(e => shown(e) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  const faint = written.map(e => [contrast(e), e]).filter(([c]) => c < 4.5);

  return {
    charts: charts.length,
    small: small.map(c => c.getAttribute('aria-label')),
    empty: empty.map(c => c.getAttribute('aria-label')),
    outside: outside.map(name),
    touching: [...touching, ...ticks].map(name),
    beyond: beyond.map(name),
    faint: faint.map(([c, e]) => `${c.toFixed(2)} ${name(e)}`),
    texts: written.length,
    page_width: document.documentElement.scrollWidth,
    window_width: wide,
    ground: light(ground(document.body)),
    open_tables: all('details table').filter(shown).length,
    details: all('details').length,
    broken_links: all('a[href^="#"]').filter(a => !document.getElementById(a.getAttribute('href').slice(1))).map(name),
  };
})()
