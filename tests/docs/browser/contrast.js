// Text that is hard to read on what is behind it: WCAG's ratio, of colours as they are computed.
(() => {
  const least = 4.5;
  const parsed = text => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(parsed(getComputedStyle(each).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const found = new Map();
  const texts = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility({opacityProperty: true, visibilityProperty: true}) || element.closest('script, style, .headerlink')) continue;
    const back = behind(element);
    const [light, dark] = [luminance(over(parsed(getComputedStyle(element).color), back)), luminance(back)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const key = `<${element.localName} class="${element.className}"> in ${getComputedStyle(element).color}`;
    if (ratio < least && !(found.get(key)?.[0] <= ratio)) found.set(key, [ratio, texts.currentNode.data.trim().slice(0, 40)]);
  }
  return [...found].map(([key, [ratio, text]]) => `${key}: ${ratio.toFixed(2)}, ${JSON.stringify(text)}`);
})()
