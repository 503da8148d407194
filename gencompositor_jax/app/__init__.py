"""The browser studio: a page, and what it asks for besides the jobs of `serve`. Needs the extra `app`.

studio.py         the application: the page's files, the routes below, those of `serve`
access.py         same origin only, the token as a cookie, security headers
folder.py         the studio's folder, private and removed at the end unless it is to be kept
clips.py          uploaded clips by name; names.py makes those safe
store.py          what was decoded and cut out, kept in bounded memory
pictures.py       frames as JPEG, WebP and PNG; videos.py the same as small videos
elements.py       the element as its key cuts it out
motion.py         paths and tracked points
previews.py       mask, trajectory and plain paste without sampling
projects.py       project files in and out
*_routes.py       the routes of each
"""
