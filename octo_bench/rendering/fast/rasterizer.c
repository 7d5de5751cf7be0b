/* Draws MuJoCo's fixed-function picture on the processor: light at the corners of triangles,
   flat and cube textures with mipmaps, transparency.

   Only +, -, *, / and square roots of IEEE numbers are used, and -ffp-contract=off keeps compilers
   from joining them, so every processor gives the same bytes. All tables (powers, decoded texels)
   come from the caller. Rows of a picture run upwards here, as in OpenGL, and are stored downwards.

   The structures are those of rasterizer.py, field by field. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SUBPIXEL 256            /* corners lie on a grid of 1/256 pixel, pixels' centres at 128 */
#define FARTHEST_PIXEL 8192.0f  /* corners beyond are not put on the grid */
#define GLOSS_STEPS 1024
#define MOST_LEVELS 16
#define MOST_THINGS 4096
#define OPAQUE 0.995f
#define PLANE_FROM_BEHIND 0.3f  /* what MuJoCo leaves of a plane's alpha seen from behind */
#define GRAZING 1e-6f           /* cosine to a light below which a corner is taken as unlit */

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));
typedef uint16_t h8 __attribute__((vector_size(16)));
typedef uint8_t b16 __attribute__((vector_size(16)));

enum { FLAT = 0, CUBE = 1 };
enum { DIRECTIONAL = 0, SPOT = 1 };

typedef struct {
    const float *points;      /* x of all, y of all, z of all; `stride` each */
    const int32_t *triangles; /* three points each, counter-clockwise from outside */
    const float *normals;     /* of each triangle: x of its three corners and a 0, then y, then z */
    const float *texcoords;   /* of each triangle: s of its corners and a 0, then t; or NULL */
    int32_t n_points, stride, n_triangles;
    float center[3], radius;
} Shape;

typedef struct {
    const uint32_t *texels; /* all levels, the largest first; red in the lowest byte */
    const float *decoded;   /* what each byte stands for where that is not byte / 255; or NULL */
    int32_t kind, width, height, n_levels;
    int32_t face_step; /* of a cube: 1 if each face has an image of its own, 0 if one serves all */
    int32_t offsets[MOST_LEVELS];
} Texture;

typedef struct {
    const Shape *shape;
    const Texture *texture; /* or NULL */
    const float *gloss;     /* powers of 0, 1/1024, ... 1 by the exponent of the highlight */
    float rgba[4], specular, emission;
    float scale[3], offset[3]; /* texture coordinates, of the position in the geom's frame */
    float reach;               /* radius around the geom's origin, by which transparent are sorted */
    int32_t is_plane;
} Thing;

typedef struct {
    const float *falloff; /* of a spot: powers of the cosine to its axis */
    int32_t kind;
    float ambient[3], diffuse[3], specular[3], position[3], direction[3], attenuation[3];
    float cutoff; /* cosine */
} Light;

typedef struct {
    double position[3], forward[3], up[3], half; /* tangent of half the field of view */
} Camera;

typedef struct {
    const Thing *things;
    const double *positions, *rotations; /* of each thing, in the world */
    const Light *lights;
    int32_t n_things, n_lights;
    float near, far, ambient; /* light that comes from no lamp */
} Scene;

/* A triangle that covers pixels. At pixel (x0 + x, y0 + y), q[i] = base[i] + x dx[i] + y dy[i] is
   the share of corner i divided by the depth w there; the sum of the three is 1/w. */
typedef struct {
    float base[3], dx[3], dy[3];
    int32_t x0, y0, thing, triangle, shading;
} Covering;

/* The light (red, green, blue, 1) and texture coordinates (s, t, r) of a triangle, divided by w. */
typedef struct {
    f4 light, light_dx, light_dy, place, place_dx, place_dy;
} Shading;

/* A thing as one camera sees it. */
typedef struct {
    float view[3][4]; /* its frame to (256 x w, 256 y w, w) */
    float eye[3];     /* in its frame */
    float to_light[8][3];
    float distance;
    int32_t transparent, from_behind;
} Sight;

typedef struct {
    const Scene *scene;
    const Camera *camera;
    int size;
    float *depth; /* 1/w, larger is nearer */
    int32_t *cover;
    Covering *coverings;
    Shading *shadings;
    int n_coverings, n_shadings;
    int32_t *grid_x, *grid_y, *off_grid;
    float *inverse;
    Sight *sights;
    uint8_t *frame;
} Canvas;

static inline float dot3(const float *a, const float *b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

static inline f4 all(float value) { return (f4){value, value, value, value}; }

static inline f4 roots(f4 value) {
    f4 root;
    for (int i = 0; i < 4; i++) root[i] = sqrtf(value[i]);
    return root;
}

/* a where the mask is set, b elsewhere. */
static inline f4 select(i4 mask, f4 a, f4 b) { return (f4)(((i4)a & mask) | ((i4)b & ~mask)); }

static inline f4 at_least(f4 value, float least) {
    return select(value > all(least), value, all(least));
}

static inline f4 at_most_one(f4 value) { return select(value < all(1.0f), value, all(1.0f)); }

/* base to a tabulated power; base from 0 to 1. */
static inline float power(const float *table, float base) {
    float at = base * GLOSS_STEPS;
    int step = (int)at;
    if (step >= GLOSS_STEPS) return table[GLOSS_STEPS];
    return table[step] + (at - (float)step) * (table[step + 1] - table[step]);
}

/* ---- where things are -------------------------------------------------------------------- */

/* Sets how a camera sees a thing; returns whether the sphere around it meets the field of view. */
static int look_at(const Canvas *canvas, int number, Sight *sight) {
    const Scene *scene = canvas->scene;
    const Camera *camera = canvas->camera;
    const Thing *thing = &scene->things[number];
    const double *position = scene->positions + 3 * number, *turn = scene->rotations + 9 * number;
    const double *f = camera->forward, *up = camera->up;
    double s[3] = {f[1] * up[2] - f[2] * up[1], f[2] * up[0] - f[0] * up[2],
                   f[0] * up[1] - f[1] * up[0]};
    double length = sqrt(s[0] * s[0] + s[1] * s[1] + s[2] * s[2]);
    for (int i = 0; i < 3; i++) s[i] /= length;
    double u[3] = {s[1] * f[2] - s[2] * f[1], s[2] * f[0] - s[0] * f[2], s[0] * f[1] - s[1] * f[0]};
    double away[3];
    for (int i = 0; i < 3; i++) away[i] = position[i] - camera->position[i];
    const double *axes[3] = {s, u, f};
    double rows[3][4];
    for (int row = 0; row < 3; row++) {
        const double *a = axes[row];
        for (int k = 0; k < 3; k++)
            rows[row][k] = a[0] * turn[k] + a[1] * turn[3 + k] + a[2] * turn[6 + k];
        rows[row][3] = a[0] * away[0] + a[1] * away[1] + a[2] * away[2];
    }
    const float *c = thing->shape->center;
    double center[3], radius = thing->shape->radius, half = camera->half;
    for (int row = 0; row < 3; row++)
        center[row] = rows[row][0] * c[0] + rows[row][1] * c[1] + rows[row][2] * c[2] + rows[row][3];
    if (center[2] + radius < scene->near || center[2] - radius > scene->far) return 0;
    double reach = radius * sqrt(1 + half * half), side = center[2] * half;
    for (int row = 0; row < 2; row++)
        if (center[row] - side > reach || -center[row] - side > reach) return 0;

    double scale = 0.5 * SUBPIXEL * canvas->size / half;
    for (int k = 0; k < 4; k++) {
        double middle = 0.5 * SUBPIXEL * canvas->size * rows[2][k];
        sight->view[0][k] = (float)(scale * rows[0][k] + middle);
        sight->view[1][k] = (float)(scale * rows[1][k] + middle);
        sight->view[2][k] = (float)rows[2][k];
    }
    for (int k = 0; k < 3; k++)
        sight->eye[k] = (float)-(away[0] * turn[k] + away[1] * turn[3 + k] + away[2] * turn[6 + k]);
    for (int l = 0; l < scene->n_lights; l++) {
        const Light *light = &scene->lights[l];
        double to[3];
        for (int i = 0; i < 3; i++)
            to[i] = light->kind == SPOT ? light->position[i] - position[i] : -light->direction[i];
        for (int k = 0; k < 3; k++)
            sight->to_light[l][k] =
                (float)(to[0] * turn[k] + to[1] * turn[3 + k] + to[2] * turn[6 + k]);
    }
    sight->from_behind = thing->is_plane && sight->eye[2] < 0;
    sight->transparent = thing->rgba[3] < OPAQUE || sight->from_behind;
    sight->distance =
        thing->is_plane ? 1e10f : sqrtf(dot3(sight->eye, sight->eye)) - thing->reach;
    return 1;
}

/* Puts the points of a shape on the grid of subpixels. */
static void project(const Canvas *canvas, const Shape *shape, const Sight *sight) {
    const float *restrict xs = shape->points, *restrict ys = xs + shape->stride,
                         *restrict zs = ys + shape->stride;
    int32_t *restrict grid_x = canvas->grid_x, *restrict grid_y = canvas->grid_y,
                      *restrict off_grid = canvas->off_grid;
    float *restrict inverse = canvas->inverse;
    const float(*m)[4] = sight->view;
    const float near = canvas->scene->near, limit = FARTHEST_PIXEL * SUBPIXEL;
    const float m00 = m[0][0], m01 = m[0][1], m02 = m[0][2], m03 = m[0][3];
    const float m10 = m[1][0], m11 = m[1][1], m12 = m[1][2], m13 = m[1][3];
    const float m20 = m[2][0], m21 = m[2][1], m22 = m[2][2], m23 = m[2][3];
    const float round = 12582912.0f; /* 1.5 x 2^23: adding it leaves no digits after the point */
    for (int i = 0; i < shape->stride; i++) {
        float x = xs[i], y = ys[i], z = zs[i];
        float w = m20 * x + m21 * y + m22 * z + m23;
        float one = 1.0f / (w > near ? w : near);
        float px = (m00 * x + m01 * y + m02 * z + m03) * one;
        float py = (m10 * x + m11 * y + m12 * z + m13) * one;
        int off = (w < near) | (px > limit) | (px < -limit) | (py > limit) | (py < -limit);
        px = px > limit ? limit : px;
        px = px < -limit ? -limit : px;
        py = py > limit ? limit : py;
        py = py < -limit ? -limit : py;
        inverse[i] = one;
        grid_x[i] = (int32_t)((px + round) - round);
        grid_y[i] = (int32_t)((py + round) - round);
        off_grid[i] = off;
    }
}

/* ---- light and texture ------------------------------------------------------------------- */

/* Lights the corners of a triangle; MuJoCo's light model of OpenGL 1, with a local viewer. */
static Shading *shade_triangle(Canvas *canvas, const Covering *covering) {
    const Scene *scene = canvas->scene;
    const Thing *thing = &scene->things[covering->thing];
    const Shape *shape = thing->shape;
    const Sight *sight = &canvas->sights[covering->thing];
    const int32_t *corner = shape->triangles + 3 * covering->triangle;
    const float *normals = shape->normals + 12 * covering->triangle;
    f4 at[3], normal[3], view[3], sum[3];
    for (int k = 0; k < 3; k++) {
        const float *axis = shape->points + k * shape->stride;
        at[k] = (f4){axis[corner[0]], axis[corner[1]], axis[corner[2]], axis[corner[2]]};
        memcpy(&normal[k], normals + 4 * k, sizeof(f4));
        view[k] = all(sight->eye[k]) - at[k];
        sum[k] = all((thing->emission + scene->ambient) * thing->rgba[k]);
    }
    f4 length = roots(view[0] * view[0] + view[1] * view[1] + view[2] * view[2]);
    f4 shorten = all(1.0f) / at_least(length, 1e-12f);
    for (int k = 0; k < 3; k++) view[k] *= shorten;

    for (int l = 0; l < scene->n_lights; l++) {
        const Light *light = &scene->lights[l];
        f4 to[3], strength = all(1.0f);
        for (int k = 0; k < 3; k++) to[k] = all(sight->to_light[l][k]);
        if (light->kind == SPOT) {
            const double *turn = scene->rotations + 9 * covering->thing;
            for (int k = 0; k < 3; k++) to[k] -= at[k];
            f4 far = at_least(roots(to[0] * to[0] + to[1] * to[1] + to[2] * to[2]), 1e-12f);
            for (int k = 0; k < 3; k++) to[k] /= far;
            f4 along = all(0.0f);
            for (int k = 0; k < 3; k++) {
                double axis = light->direction[0] * turn[k] + light->direction[1] * turn[3 + k] +
                              light->direction[2] * turn[6 + k];
                along -= to[k] * all((float)axis);
            }
            strength /= all(light->attenuation[0]) + light->attenuation[1] * far +
                        light->attenuation[2] * far * far;
            for (int i = 0; i < 3; i++) {
                float cosine = along[i] < 1.0f ? along[i] : 1.0f;
                int inside = cosine >= light->cutoff && cosine > 0;
                strength[i] *= inside ? power(light->falloff, cosine) : 0.0f;
            }
        }
        f4 facing = normal[0] * to[0] + normal[1] * to[1] + normal[2] * to[2];
        f4 half[3];
        for (int k = 0; k < 3; k++) half[k] = to[k] + view[k];
        f4 long_half = roots(half[0] * half[0] + half[1] * half[1] + half[2] * half[2]);
        f4 cosine = (normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2]) /
                    at_least(long_half, 1e-12f);
        cosine = at_most_one(at_least(cosine, 0.0f));
        f4 matte = all(0.0f), glossy = all(0.0f);
        for (int i = 0; i < 3; i++)
            if (facing[i] > GRAZING) {
                matte[i] = facing[i];
                glossy[i] = power(thing->gloss, cosine[i]) * thing->specular;
            }
        for (int k = 0; k < 3; k++)
            sum[k] += strength * (all(light->ambient[k] * thing->rgba[k]) +
                                  matte * (light->diffuse[k] * thing->rgba[k]) +
                                  glossy * light->specular[k]);
    }

    f4 place[3];
    if (shape->texcoords) {
        const float *texcoords = shape->texcoords + 8 * covering->triangle;
        memcpy(&place[0], texcoords, sizeof(f4));
        memcpy(&place[1], texcoords + 4, sizeof(f4));
        place[2] = all(0.0f);
    } else {
        for (int k = 0; k < 3; k++) place[k] = at[k] * thing->scale[k] + all(thing->offset[k]);
    }

    Shading *shading = &canvas->shadings[canvas->n_shadings++];
    memset(shading, 0, sizeof(Shading));
    for (int k = 0; k < 3; k++) sum[k] = at_most_one(at_least(sum[k], 0.0f));
    for (int i = 0; i < 3; i++) {
        f4 light = {sum[0][i], sum[1][i], sum[2][i], 1.0f};
        f4 coordinates = {place[0][i], place[1][i], place[2][i], 0.0f};
        shading->light += light * covering->base[i];
        shading->light_dx += light * covering->dx[i];
        shading->light_dy += light * covering->dy[i];
        shading->place += coordinates * covering->base[i];
        shading->place_dx += coordinates * covering->dx[i];
        shading->place_dy += coordinates * covering->dy[i];
    }
    return shading;
}

/* The face of a cube that a direction meets, and where (s, t) on it, from 0 to 1. */
static inline int cube_face(f4 direction, float *s, float *t) {
    float x = direction[0], y = direction[1], z = direction[2];
    float ax = fabsf(x), ay = fabsf(y), az = fabsf(z);
    float across, down, along;
    int face;
    if (ax >= ay && ax >= az) {
        face = x >= 0 ? 0 : 1, along = ax, across = x >= 0 ? -z : z, down = -y;
    } else if (ay >= az) {
        face = y >= 0 ? 2 : 3, along = ay, across = x, down = y >= 0 ? z : -z;
    } else {
        face = z >= 0 ? 4 : 5, along = az, across = z >= 0 ? x : -x, down = -y;
    }
    along = along > 1e-20f ? along : 1e-20f;
    *s = 0.5f * (across / along + 1.0f);
    *t = 0.5f * (down / along + 1.0f);
    return face;
}

/* (s, t) of a direction on a given face of a cube. */
static inline void on_face(int face, f4 direction, float *s, float *t) {
    float x = direction[0], y = direction[1], z = direction[2];
    float along = face < 2 ? fabsf(x) : face < 4 ? fabsf(y) : fabsf(z);
    float across = face == 0 ? -z : face == 1 ? z : face == 5 ? -x : x;
    float down = face == 2 ? z : face == 3 ? -z : -y;
    along = along > 1e-20f ? along : 1e-20f;
    *s = 0.5f * (across / along + 1.0f);
    *t = 0.5f * (down / along + 1.0f);
}

static inline f4 place_at(const Shading *shading, float x, float y) {
    f4 light = shading->light + shading->light_dx * x + shading->light_dy * y;
    f4 place = shading->place + shading->place_dx * x + shading->place_dy * y;
    return place / all(light[3]);
}

/* The mipmap level nearest to the size of a 2 x 2 block of pixels, whose corner (x, y) is. */
static int level_of(const Texture *texture, const Shading *shading, float x, float y) {
    f4 here = place_at(shading, x, y), right = place_at(shading, x + 1, y),
       above = place_at(shading, x, y + 1);
    float s, t, s_x, t_x, s_y, t_y;
    if (texture->kind == CUBE) {
        int face = cube_face(here, &s, &t);
        on_face(face, right, &s_x, &t_x);
        on_face(face, above, &s_y, &t_y);
    } else {
        s = here[0], t = here[1], s_x = right[0], t_x = right[1], s_y = above[0], t_y = above[1];
    }
    s_x = (s_x - s) * texture->width, t_x = (t_x - t) * texture->height;
    s_y = (s_y - s) * texture->width, t_y = (t_y - t) * texture->height;
    float along = s_x * s_x + t_x * t_x, across = s_y * s_y + t_y * t_y;
    float twice = 2 * (along > across ? along : across);
    if (!(twice >= 4)) return 0; /* or not a number */
    int32_t bits;
    memcpy(&bits, &twice, sizeof bits);
    int level = ((bits >> 23) - 127) >> 1;
    return level < texture->n_levels ? level : texture->n_levels - 1;
}

/* An index from -size - 1 to size, of a texture that repeats. */
static inline int wrapped(int index, int size) {
    index += index < 0 ? size : 0;
    index += index < 0 ? size : 0;
    return index < size ? index : index - size;
}

static inline int clamped(int index, int size) {
    return index < 0 ? 0 : index >= size ? size - 1 : index;
}

/* Bytes of two texels, each in 16 bits. */
static inline h8 spread(uint32_t first, uint32_t second) {
    b16 bytes = (b16)(u4){first, second, 0, 0}, none = {0};
    return (h8)__builtin_shuffle(
        bytes, none, (b16){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
}

/* Between a and b, by a share of 256; rounded to bytes. */
static inline h8 between(h8 a, h8 b, uint16_t share) {
    return (a * (uint16_t)(256 - share) + b * share + 128) >> 8;
}

static inline f4 decoded(const Texture *texture, uint32_t texel) {
    const float *table = texture->decoded;
    return (f4){table[texel & 255], table[texel >> 8 & 255], table[texel >> 16 & 255],
                (float)(texel >> 24) * (1.0f / 255)};
}

static f4 sample(const Texture *texture, f4 place, int level) {
    int width = texture->width >> level, height = texture->height >> level;
    width = width > 0 ? width : 1, height = height > 0 ? height : 1;
    const uint32_t *texels = texture->texels + texture->offsets[level];
    float s = place[0], t = place[1];
    if (texture->kind == CUBE) {
        int face = cube_face(place, &s, &t);
        texels += (ptrdiff_t)face * texture->face_step * width * width;
    } else {
        s = s > -1e6f && s < 1e6f ? s : 0.0f;
        t = t > -1e6f && t < 1e6f ? t : 0.0f;
        s -= (float)(int)s, t -= (float)(int)t; /* towards zero; the index is wrapped below */
    }
    float across = s * (float)width - 0.5f, down = t * (float)height - 0.5f;
    int i = (int)across, j = (int)down;
    i -= (float)i > across, j -= (float)j > down;
    float right = across - (float)i, below = down - (float)j;
    int i0, i1, j0, j1;
    if (texture->kind == CUBE) {
        i0 = clamped(i, width), i1 = clamped(i + 1, width);
        j0 = clamped(j, height), j1 = clamped(j + 1, height);
    } else {
        i0 = wrapped(i, width), i1 = i0 + 1 < width ? i0 + 1 : 0;
        j0 = wrapped(j, height), j1 = j0 + 1 < height ? j0 + 1 : 0;
    }
    const uint32_t *row = texels + (ptrdiff_t)j0 * width, *next = texels + (ptrdiff_t)j1 * width;
    if (texture->decoded) {
        f4 first = decoded(texture, row[i0]) * (1 - right) + decoded(texture, row[i1]) * right;
        f4 second = decoded(texture, next[i0]) * (1 - right) + decoded(texture, next[i1]) * right;
        return first * (1 - below) + second * below;
    }
    h8 left = spread(row[i0], next[i0]), other = spread(row[i1], next[i1]);
    h8 both = between(left, other, (uint16_t)(right * 256 + 0.5f)), none = {0};
    h8 lower = __builtin_shuffle(both, (h8){4, 5, 6, 7, 4, 5, 6, 7});
    both = between(both, lower, (uint16_t)(below * 256 + 0.5f));
    i4 bytes = (i4)__builtin_shuffle(both, none, (h8){0, 8, 1, 9, 2, 10, 3, 11});
    return __builtin_convertvector(bytes, f4) * (1.0f / 255);
}

/* The colour of a covering at a pixel; `level` is kept from pixel to pixel of a block, -1 before. */
static inline f4 colour_at(Canvas *canvas, Covering *covering, int x, int y, int *level) {
    const Thing *thing = &canvas->scene->things[covering->thing];
    if (covering->shading < 0)
        covering->shading = (int32_t)(shade_triangle(canvas, covering) - canvas->shadings);
    const Shading *shading = &canvas->shadings[covering->shading];
    float dx = (float)(x - covering->x0), dy = (float)(y - covering->y0);
    f4 light = shading->light + shading->light_dx * dx + shading->light_dy * dy;
    float w = 1.0f / light[3];
    f4 colour = light * w;
    colour[3] = thing->rgba[3];
    if (thing->texture) {
        if (*level < 0) {
            float left = (float)((x & ~1) - covering->x0), low = (float)((y & ~1) - covering->y0);
            *level = level_of(thing->texture, shading, left, low);
        }
        f4 place = shading->place + shading->place_dx * dx + shading->place_dy * dy;
        colour *= sample(thing->texture, place * w, *level);
    }
    return colour;
}

static inline uint8_t *pixel(const Canvas *canvas, int x, int y) {
    return canvas->frame + 3 * ((ptrdiff_t)(canvas->size - 1 - y) * canvas->size + x);
}

/* Rounded to the nearest of 256 levels, from 0 to 1. */
static inline void store(uint8_t *to, f4 colour) {
    f4 scaled = at_most_one(at_least(colour, 0.0f)) * 255.0f + 0.5f;
    for (int k = 0; k < 3; k++) to[k] = (uint8_t)(int)scaled[k];
}

static void blend(Canvas *canvas, Covering *covering, int x, int y) {
    int level = -1;
    f4 colour = colour_at(canvas, covering, x, y, &level);
    float alpha = colour[3];
    if (canvas->sights[covering->thing].from_behind) alpha *= PLANE_FROM_BEHIND;
    uint8_t *to = pixel(canvas, x, y);
    f4 behind = {to[0], to[1], to[2], 0.0f};
    store(to, colour * alpha + behind * ((1 - alpha) * (1.0f / 255)));
}

/* ---- which pixels a triangle covers ------------------------------------------------------ */

/* One row of pixels from x_first to x_last: what is nearer than what was there takes its place. */
static inline void take_row(Canvas *canvas, Covering *covering, int y, int x_first, int x_last,
                            int see_through) {
    float one = covering->base[0] + covering->base[1] + covering->base[2];
    float one_dx = covering->dx[0] + covering->dx[1] + covering->dx[2];
    float one_dy = covering->dy[0] + covering->dy[1] + covering->dy[2];
    float start = one + one_dy * (float)(y - covering->y0);
    float *restrict depth = canvas->depth + (ptrdiff_t)y * canvas->size;
    if (see_through) {
        for (int x = x_first; x <= x_last; x++)
            if (start + one_dx * (float)(x - covering->x0) >= depth[x])
                blend(canvas, covering, x, y);
        return;
    }
    int32_t *restrict cover = canvas->cover + (ptrdiff_t)y * canvas->size;
    int32_t own = (int32_t)(covering - canvas->coverings);
    int x = x_first;
    for (; x + 3 <= x_last; x += 4) {
        float at = (float)(x - covering->x0);
        f4 value = start + one_dx * (f4){at, at + 1, at + 2, at + 3}, before;
        i4 owners;
        memcpy(&before, depth + x, sizeof before);
        memcpy(&owners, cover + x, sizeof owners);
        i4 nearer = value >= before;
        before = select(nearer, value, before);
        owners = (nearer & own) | (owners & ~nearer);
        memcpy(depth + x, &before, sizeof before);
        memcpy(cover + x, &owners, sizeof owners);
    }
    for (; x <= x_last; x++) {
        float value = start + one_dx * (float)(x - covering->x0);
        if (value >= depth[x]) depth[x] = value, cover[x] = own;
    }
}

static inline int64_t floor_div(int64_t a, int64_t b) { /* b > 0 */
    int64_t quotient = a / b;
    return quotient - (quotient * b > a);
}

/* A triangle all of whose corners are on the grid, front side towards the camera. */
static void cover_on_grid(Canvas *canvas, int number, int triangle, const int32_t *corner,
                          int flip, int see_through) {
    int64_t vx[3], vy[3];
    for (int i = 0; i < 3; i++) {
        vx[i] = canvas->grid_x[corner[i]];
        vy[i] = canvas->grid_y[corner[i]];
    }
    int a = flip ? 2 : 1, b = flip ? 1 : 2; /* counter-clockwise: 0, a, b */
    int order[3] = {0, a, b};
    int64_t low_x = vx[0], high_x = vx[0], low_y = vy[0], high_y = vy[0];
    for (int i = 1; i < 3; i++) {
        low_x = vx[i] < low_x ? vx[i] : low_x, high_x = vx[i] > high_x ? vx[i] : high_x;
        low_y = vy[i] < low_y ? vy[i] : low_y, high_y = vy[i] > high_y ? vy[i] : high_y;
    }
    int last = canvas->size - 1, half = SUBPIXEL / 2;
    int x0 = (int)((low_x + half - 1) >> 8), x1 = (int)((high_x - half) >> 8);
    int y0 = (int)((low_y + half - 1) >> 8), y1 = (int)((high_y - half) >> 8);
    x0 = x0 < 0 ? 0 : x0, y0 = y0 < 0 ? 0 : y0, x1 = x1 > last ? last : x1, y1 = y1 > last ? last : y1;
    if (x0 > x1 || y0 > y1) return;

    /* Edge i lies opposite of corner order[i]; inside, all three are at least 0. */
    int64_t edge[3], step_x[3], step_y[3], bias[3];
    int64_t px = (int64_t)x0 * SUBPIXEL + half, py = (int64_t)y0 * SUBPIXEL + half;
    for (int i = 0; i < 3; i++) {
        int j = order[(i + 1) % 3], k = order[(i + 2) % 3];
        int64_t ex = vx[k] - vx[j], ey = vy[k] - vy[j];
        edge[i] = ex * (py - vy[j]) - ey * (px - vx[j]);
        step_x[i] = -ey * SUBPIXEL;
        step_y[i] = ex * SUBPIXEL;
        /* A pixel on an edge that two triangles share belongs to one of them. */
        bias[i] = ey < 0 || (ey == 0 && ex < 0) ? 0 : 1;
    }
    Covering *covering = &canvas->coverings[canvas->n_coverings];
    int made = 0;
    for (int y = y0; y <= y1; y++) {
        int64_t row[3];
        for (int i = 0; i < 3; i++) row[i] = edge[i] - bias[i] + (y - y0) * step_y[i];
        int first = 0, end = x1 - x0;
        if (end >= 6) {
            for (int i = 0; i < 3; i++) {
                if (step_x[i] > 0) {
                    int64_t from = row[i] < 0 ? floor_div(-row[i] - 1, step_x[i]) + 1 : 0;
                    first = from > first ? (from > end ? end + 1 : (int)from) : first;
                } else if (step_x[i] < 0) {
                    int64_t to = row[i] < 0 ? -1 : floor_div(row[i], -step_x[i]);
                    end = to < end ? (int)to : end;
                } else if (row[i] < 0) {
                    end = -1;
                }
            }
        } else {
            int count = end;
            while (first <= count && ((row[0] + first * step_x[0]) | (row[1] + first * step_x[1]) |
                                      (row[2] + first * step_x[2])) < 0)
                first++;
            end = first;
            while (end <= count && ((row[0] + end * step_x[0]) | (row[1] + end * step_x[1]) |
                                    (row[2] + end * step_x[2])) >= 0)
                end++;
            end--;
        }
        if (first > end) continue;
        if (!made) {
            made = 1;
            canvas->n_coverings++;
            float area = (float)(edge[0] + edge[1] + edge[2]);
            for (int i = 0; i < 3; i++) {
                int c = order[i];
                float share = canvas->inverse[corner[c]] / area;
                covering->base[c] = (float)edge[i] * share;
                covering->dx[c] = (float)step_x[i] * share;
                covering->dy[c] = (float)step_y[i] * share;
            }
            covering->x0 = x0, covering->y0 = y0;
            covering->thing = number, covering->triangle = triangle, covering->shading = -1;
        }
        take_row(canvas, covering, y, x0 + first, x0 + end, see_through);
    }
}

/* A triangle that crosses the near plane, or reaches far out of the picture: in homogeneous
   coordinates (Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997),
   so that nothing is divided by the depth of a corner. */
static void cover_off_grid(Canvas *canvas, int number, int triangle, const int32_t *corner,
                           int flip, int see_through) {
    const Shape *shape = canvas->scene->things[number].shape;
    const float(*m)[4] = canvas->sights[number].view;
    double v[3][3], near = canvas->scene->near;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            v[i][k] = (double)m[k][0] * shape->points[corner[i]] +
                      (double)m[k][1] * shape->points[shape->stride + corner[i]] +
                      (double)m[k][2] * shape->points[2 * shape->stride + corner[i]] + m[k][3];
    if (v[0][2] < near && v[1][2] < near && v[2][2] < near) return;
    for (int i = 0; i < 3; i++) v[i][0] /= SUBPIXEL, v[i][1] /= SUBPIXEL; /* pixels x depth */
    double plane[3][3], volume = 0; /* plane[i] . (px, py, 1) / volume is corner i's share of 1/w */
    for (int i = 0; i < 3; i++) {
        const double *j = v[(i + 1) % 3], *k = v[(i + 2) % 3];
        plane[i][0] = j[1] * k[2] - j[2] * k[1];
        plane[i][1] = j[2] * k[0] - j[0] * k[2];
        plane[i][2] = j[0] * k[1] - j[1] * k[0];
    }
    for (int k = 0; k < 3; k++) volume += v[0][k] * plane[0][k];
    if (flip ? volume >= 0 : volume <= 0) return;

    /* The bounds of what is left in front of the near plane. */
    double low[2] = {1e30, 1e30}, high[2] = {-1e30, -1e30};
    for (int i = 0; i < 3; i++) {
        const double *p = v[i], *n = v[(i + 1) % 3];
        double ends[2][2];
        int count = 0;
        if (p[2] >= near) {
            ends[count][0] = p[0] / p[2], ends[count++][1] = p[1] / p[2];
        }
        if ((p[2] >= near) != (n[2] >= near)) {
            double share = (near - p[2]) / (n[2] - p[2]);
            ends[count][0] = (p[0] + share * (n[0] - p[0])) / near;
            ends[count++][1] = (p[1] + share * (n[1] - p[1])) / near;
        }
        for (int e = 0; e < count; e++)
            for (int k = 0; k < 2; k++) {
                low[k] = ends[e][k] < low[k] ? ends[e][k] : low[k];
                high[k] = ends[e][k] > high[k] ? ends[e][k] : high[k];
            }
    }
    int size = canvas->size, bounds[2][2];
    for (int k = 0; k < 2; k++) {
        if (low[k] > size || high[k] < 0) return;
        bounds[k][0] = low[k] < 0.5 ? 0 : (int)(low[k] - 0.5);
        bounds[k][1] = high[k] > size ? size - 1 : (int)high[k];
        if (bounds[k][1] > size - 1) bounds[k][1] = size - 1;
    }

    Covering *covering = &canvas->coverings[canvas->n_coverings];
    int made = 0, x0 = bounds[0][0], y0 = bounds[1][0];
    for (int y = y0; y <= bounds[1][1]; y++) {
        int first = -1, end = -1;
        for (int x = x0; x <= bounds[0][1]; x++) {
            double sum = 0;
            int inside = 1;
            for (int i = 0; i < 3; i++) {
                double q = (plane[i][0] * (x + 0.5) + plane[i][1] * (y + 0.5) + plane[i][2]) / volume;
                inside &= q >= 0;
                sum += q;
            }
            if (inside && sum * near <= 1) {
                first = first < 0 ? x : first;
                end = x;
            }
        }
        if (first < 0) continue;
        if (!made) {
            made = 1;
            canvas->n_coverings++;
            for (int i = 0; i < 3; i++) {
                covering->base[i] =
                    (float)((plane[i][0] * (x0 + 0.5) + plane[i][1] * (y0 + 0.5) + plane[i][2]) / volume);
                covering->dx[i] = (float)(plane[i][0] / volume);
                covering->dy[i] = (float)(plane[i][1] / volume);
            }
            covering->x0 = x0, covering->y0 = y0;
            covering->thing = number, covering->triangle = triangle, covering->shading = -1;
        }
        take_row(canvas, covering, y, first, end, see_through);
    }
}

static void cover_thing(Canvas *canvas, int number, int see_through) {
    const Shape *shape = canvas->scene->things[number].shape;
    const Sight *sight = &canvas->sights[number];
    const int32_t *restrict xs = canvas->grid_x, *restrict ys = canvas->grid_y,
                           *restrict off = canvas->off_grid;
    int flip = sight->from_behind;
    project(canvas, shape, sight);
    const int32_t *corner = shape->triangles;
    for (int triangle = 0; triangle < shape->n_triangles; triangle++, corner += 3) {
        int a = corner[0], b = corner[1], c = corner[2];
        if (off[a] | off[b] | off[c]) {
            cover_off_grid(canvas, number, triangle, corner, flip, see_through);
            continue;
        }
        int64_t area = (int64_t)(xs[b] - xs[a]) * (ys[c] - ys[a]) -
                       (int64_t)(xs[c] - xs[a]) * (ys[b] - ys[a]);
        if (flip ? area < 0 : area > 0)
            cover_on_grid(canvas, number, triangle, corner, flip, see_through);
    }
}

/* ---- pictures ---------------------------------------------------------------------------- */

static void draw(Canvas *canvas) {
    const Scene *scene = canvas->scene;
    int size = canvas->size, pixels = size * size, n_see_through = 0;
    static _Thread_local int32_t see_through[MOST_THINGS];
    float farthest = 1.0f / scene->far;
    for (int i = 0; i < pixels; i++) canvas->depth[i] = farthest;
    memset(canvas->cover, -1, sizeof(int32_t) * pixels);
    canvas->n_coverings = canvas->n_shadings = 0;
    for (int number = 0; number < scene->n_things; number++) {
        Sight *sight = &canvas->sights[number];
        if (scene->things[number].rgba[3] == 0 || !look_at(canvas, number, sight)) continue;
        if (!sight->transparent) {
            cover_thing(canvas, number, 0);
            continue;
        }
        int place = n_see_through++;
        while (place > 0 && canvas->sights[see_through[place - 1]].distance > sight->distance) {
            see_through[place] = see_through[place - 1];
            place--;
        }
        see_through[place] = number;
    }

    for (int y = 0; y < size; y += 2)
        for (int x = 0; x < size; x += 2) {
            int32_t before = -1;
            int level = -1;
            for (int k = 0; k < 4; k++) {
                int column = x + (k & 1), row = y + (k >> 1);
                if (column >= size || row >= size) continue;
                int32_t own = canvas->cover[(ptrdiff_t)row * size + column];
                uint8_t *to = pixel(canvas, column, row);
                if (own < 0) {
                    to[0] = to[1] = to[2] = 0;
                    continue;
                }
                if (own != before) level = -1;
                before = own;
                store(to, colour_at(canvas, &canvas->coverings[own], column, row, &level));
            }
        }

    /* As MuJoCo does: from near to far, and again from far to near. */
    for (int i = 0; i < 2 * n_see_through; i++) {
        int place = i < n_see_through ? i : 2 * n_see_through - 1 - i;
        canvas->n_coverings = canvas->n_shadings = 0;
        cover_thing(canvas, see_through[place], 1);
    }
}

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Bytes of working memory for pictures of `size` pixels, of a scene with so many triangles in all,
   things, and points in the largest shape. */
size_t octo_bench_working_bytes(int size, int n_triangles, int n_things, int n_points) {
    size_t pixels = (size_t)size * size;
    return 2 * aligned(4 * pixels) + aligned(sizeof(Covering) * (size_t)n_triangles) +
           aligned(sizeof(Shading) * (size_t)n_triangles) + 4 * aligned(4 * (size_t)n_points) +
           aligned(sizeof(Sight) * (size_t)n_things) + 64;
}

/* Draws a picture for each camera, (n_cameras, size, size, 3) bytes. */
void octo_bench_draw(const Scene *scene, const Camera *cameras, int n_cameras, int size,
                     int n_triangles, int n_points, uint8_t *frames, uint8_t *working) {
    size_t pixels = (size_t)size * size;
    working += (64 - (uintptr_t)working % 64) % 64;
    Canvas canvas = {.scene = scene, .size = size};
#define TAKE(field, bytes) \
    canvas.field = (void *)working; \
    working += aligned(bytes)
    TAKE(depth, 4 * pixels);
    TAKE(cover, 4 * pixels);
    TAKE(coverings, sizeof(Covering) * (size_t)n_triangles);
    TAKE(shadings, sizeof(Shading) * (size_t)n_triangles);
    TAKE(grid_x, 4 * (size_t)n_points);
    TAKE(grid_y, 4 * (size_t)n_points);
    TAKE(off_grid, 4 * (size_t)n_points);
    TAKE(inverse, 4 * (size_t)n_points);
    TAKE(sights, sizeof(Sight) * (size_t)scene->n_things);
#undef TAKE
    for (int i = 0; i < n_cameras; i++) {
        canvas.camera = &cameras[i];
        canvas.frame = frames + (size_t)i * pixels * 3;
        draw(&canvas);
    }
}

#ifndef OCTO_BENCH_SOURCE
#define OCTO_BENCH_SOURCE "" /* SHA-256 of this file, given by setup.py */
#endif

const char *octo_bench_source = OCTO_BENCH_SOURCE;

/* Sizes of the structures, for the caller to compare with its own. */
void octo_bench_sizes(int32_t *sizes) {
    sizes[0] = sizeof(Shape), sizes[1] = sizeof(Texture), sizes[2] = sizeof(Thing);
    sizes[3] = sizeof(Light), sizes[4] = sizeof(Camera), sizes[5] = sizeof(Scene);
}
