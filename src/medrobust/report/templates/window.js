/* Values of a CT, undone as `medrobust.report.values` packed them, and drawn at a level and a width. */
async function unpacked(text, width) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 2;
  const values = new Int16Array(count);
  for (let k = 0; k < count; k++) {
    const step = planes[k] | (planes[count + k] << 8);
    values[k] = k % width ? values[k - 1] + step : step;
  }
  return values;
}
function drawn(canvas, values, [width, height], slice, level, span) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const from = slice * width * height;
  for (let k = 0; k < width * height; k++) {
    const grey = Math.round((255 * (values[from + k] - level)) / span + 127.5);
    image.data[4 * k] = image.data[4 * k + 1] = image.data[4 * k + 2] = grey;
    image.data[4 * k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
