#include "cli/svg.h"

#include <math.h>

void stk_html_escape(const char *text, FILE *to)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&quot;"
                             : c == '\'' ? "&#39;"
                                         : NULL;
        if (entity)
            fputs(entity, to);
        else // control characters are not allowed in a page
            fputc(c < 32 && c != '\n' && c != '\t' ? ' ' : c, to);
    }
}

void stk_svg_begin(stk_svg *svg, const char *title)
{
    fprintf(svg->to, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", svg->width,
            svg->height);
    stk_html_escape(title, svg->to);
    fputs("\">\n", svg->to);
}

void stk_svg_end(stk_svg *svg)
{
    fputs("</svg>\n", svg->to);
}

double stk_svg_x(const stk_svg *svg, double value)
{
    return svg->left + value / svg->x_max * (svg->right - svg->left);
}

double stk_svg_y(const stk_svg *svg, double value)
{
    return svg->bottom - value / svg->y_max * (svg->bottom - svg->top);
}

// The smallest of 1, 2, 5 times a power of ten that cuts `range` into at most five steps.
static double round_step(double range)
{
    double step = pow(10, floor(log10(range / 5)));
    if (range / step > 25)
        return step * 10;
    return range / step > 10 ? step * 5 : range / step > 5 ? step * 2 : step;
}

void stk_svg_grid(stk_svg *svg, const char *label_format, double scale)
{
    double step = round_step(svg->y_max);
    for (int i = 0; i * step <= svg->y_max * 1.0001; i++) {
        char label[32];
        double y = stk_svg_y(svg, i * step);
        fprintf(svg->to, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                svg->left, svg->right, y, y);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" // the caller's, with one double
        snprintf(label, sizeof label, label_format, i * step * scale);
#pragma GCC diagnostic pop
        stk_svg_text(svg, svg->left - 6, y + 4, STK_SVG_END, label);
    }
}

void stk_svg_text(stk_svg *svg, double x, double y, stk_svg_anchor anchor, const char *text)
{
    static const char *const names[] = {"start", "middle", "end"};
    fprintf(svg->to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, names[anchor]);
    stk_html_escape(text, svg->to);
    fputs("</text>\n", svg->to);
}

void stk_svg_bar(stk_svg *svg, double x0, double x1, double y0, double y1, const char *css_class,
                 double opacity, const char *tip)
{
    double left = stk_svg_x(svg, x0), top = stk_svg_y(svg, y1);
    fprintf(svg->to, "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"",
            css_class, left, top, stk_svg_x(svg, x1) - left, stk_svg_y(svg, y0) - top);
    if (opacity < 1)
        fprintf(svg->to, " fill-opacity=\"%.3f\"", opacity);
    fputs("><title>", svg->to);
    stk_html_escape(tip, svg->to);
    fputs("</title></rect>\n", svg->to);
}

void stk_svg_line(stk_svg *svg, const double *x, const double *y, unsigned count,
                  const char *css_class)
{
    fprintf(svg->to, "<polyline class=\"%s\" points=\"", css_class);
    for (unsigned i = 0; i < count; i++)
        fprintf(svg->to, "%.2f,%.2f ", stk_svg_x(svg, x[i]), stk_svg_y(svg, y[i]));
    fputs("\"/>\n", svg->to);
}
