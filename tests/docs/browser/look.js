// What is wrong with the page as it is shown now: a list of sentences, empty if nothing is.
(() => {
  const complaints = [];
  const width = Math.min(window.screen.width, document.documentElement.clientWidth); // a phone's page grows with what is too wide
  const where = element => `<${element.localName}> ${JSON.stringify((element.alt || element.innerText || '').slice(0, 60))}`;
  if (document.documentElement.scrollWidth > width) complaints.push(`the page is ${document.documentElement.scrollWidth} px wide`);

  // Whatever is wider than the window has to be in something that scrolls, and may not be cut off.
  const scrolls = element => {
    for (let each = element; each && each !== document.body; each = each.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(each).overflowX)) return true;
    return false;
  };
  for (const element of document.querySelectorAll('article *')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !scrolls(element)) complaints.push(`${where(element)} ends at ${Math.round(box.right)} px`);
  }

  for (const picture of document.querySelectorAll('article img')) {
    if (!picture.complete || !picture.naturalWidth) complaints.push(`${where(picture)} did not load: ${picture.src}`);
    if (!picture.alt.trim()) complaints.push(`${picture.src} has no text alternative`);
  }
  for (const drawing of document.querySelectorAll('article svg'))
    if (!drawing.closest('button, a') && !drawing.querySelector('title') && !drawing.getAttribute('aria-label'))
      complaints.push(`${where(drawing)} has no text alternative`);
  if (document.querySelectorAll('h1').length !== 1) complaints.push(`${document.querySelectorAll('h1').length} headings of the first level`);
  return complaints;
})()
