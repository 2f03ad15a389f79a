// cli/svg.h: a few shapes of SVG for charts inside an HTML page.
//
// Colours are classes, which the page's style sheet defines for light and dark. Text is escaped.
#ifndef STK_CLI_SVG_H
#define STK_CLI_SVG_H

#include <stdio.h>

// The plotting area of one chart, in the picture's units; y grows downwards.
typedef struct stk_svg {
    FILE *to;
    double width, height;            // of the picture
    double left, top, right, bottom; // of the plot inside it
    double x_max, y_max;             // values at the right and the top; both start at 0
} stk_svg;

typedef enum stk_svg_anchor { STK_SVG_START, STK_SVG_MIDDLE, STK_SVG_END } stk_svg_anchor;

void stk_html_escape(const char *text, FILE *to);

// Begins the picture; title is what a screen reader says.
void stk_svg_begin(stk_svg *svg, const char *title);
void stk_svg_end(stk_svg *svg);
double stk_svg_x(const stk_svg *svg, double value);
double stk_svg_y(const stk_svg *svg, double value);
// Horizontal lines at round values of y, and their labels with a format for one double.
void stk_svg_grid(stk_svg *svg, const char *label_format, double scale);
void stk_svg_text(stk_svg *svg, double x, double y, stk_svg_anchor anchor, const char *text);
// A rectangle given by values; tip is shown when pointed at. opacity 0..1.
void stk_svg_bar(stk_svg *svg, double x0, double x1, double y0, double y1, const char *css_class,
                 double opacity, const char *tip);
// A line through (x[i], y[i]), values.
void stk_svg_line(stk_svg *svg, const double *x, const double *y, unsigned count,
                  const char *css_class);

#endif
