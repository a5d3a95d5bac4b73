// Return every piece of visible text within the part of a page that a selector names, whose contrast is below WCAG 2.2's 4.5:1.
(part) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [[red, green, blue], alpha / 255];
  };
  const over = (below, above, alpha) => below.map((each, i) => each * (1 - alpha) + above[i] * alpha);
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((each) => {
      const part = each / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const faint = [];
  const texts = document.createTreeWalker(document.querySelector(part), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.getClientRects().length) continue;
    const around = [];
    for (let each = element; each; each = each.parentElement) around.unshift(getComputedStyle(each));
    let ground = [255, 255, 255];
    let opacity = 1;
    for (const style of around) {
      const [colour, alpha] = channels(style.backgroundColor);
      ground = over(ground, colour, alpha);
      opacity *= Number(style.opacity);
    }
    const [colour, alpha] = channels(around.at(-1).color);
    const pair = [luminance(ground), luminance(over(ground, colour, alpha * opacity))];
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return faint;
}
