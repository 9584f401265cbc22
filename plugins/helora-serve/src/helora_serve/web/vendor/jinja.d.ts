/** The parts of `@huggingface/jinja` that are used here. */
export class Template {
  constructor(template: string);
  render(items: Record<string, unknown>): string;
}
